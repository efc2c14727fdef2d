package command

import (
	"slices"
	"testing"
)

func TestTree(t *testing.T) {
	tree := newTree(100, "M=1")
	for i, c := range []struct {
		table []process
		want  []int
	}{
		{[]process{{pid: 1, session: 1, start: 1}, {pid: 100, parent: 50, session: 100, start: 5}, {pid: 50, parent: 1, session: 50, start: 2}}, []int{100}},
		// Children in the session, and one in a session of its own.
		{[]process{{pid: 100, parent: 50, session: 100, start: 5}, {pid: 101, parent: 100, session: 100, start: 6}, {pid: 102, parent: 101, session: 102, start: 7}}, []int{100, 101, 102}},
		// A parent is gone; its child, now another's, is still known, and so is the child's child.
		{[]process{{pid: 100, parent: 50, session: 100, start: 5}, {pid: 102, parent: 1, session: 102, start: 7}, {pid: 103, parent: 102, session: 103, start: 8}}, []int{100, 102, 103}},
		// The root has ended and is not reaped.
		{[]process{{pid: 100, parent: 50, session: 100, start: 5, gone: true}, {pid: 103, parent: 1, session: 103, start: 8}}, []int{103}},
		// Numbers come again: for a stranger, and for a stranger's session.
		{[]process{{pid: 100, parent: 1, session: 100, start: 50}, {pid: 110, parent: 100, session: 100, start: 51}, {pid: 103, parent: 1, session: 1, start: 60}}, nil},
	} {
		if got := tree.update(c.table); !slices.Equal(got, c.want) {
			t.Errorf("look %d: %v, want %v", i, got, c.want)
		}
	}
}

func TestFamily(t *testing.T) {
	table := []process{{pid: 9, parent: 7}, {pid: 1}, {pid: 7, parent: 5}, {pid: 5, parent: 1}, {pid: 8, parent: 5, gone: true}, {pid: 6, parent: 1}}
	for pid, want := range map[int][]int{5: {5, 7, 9}, 6: {6}, 8: nil, 99: nil} {
		if got := familyOf(pid, table); !slices.Equal(got, want) {
			t.Errorf("of %d: %v, want %v", pid, got, want)
		}
	}
}
