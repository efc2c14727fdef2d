package command

import (
	"errors"
	"slices"
	"syscall"
)

// process is a line of the system's table of processes.
type process struct {
	pid, parent, session int
	start                int64 // when it started, in any unit: tells two of one number apart
	gone                 bool  // ended and not yet reaped
}

// tree is a patient's processes: its session, whatever descends from them, and
// whatever did when it was looked at last.
type tree struct {
	root    int
	start   int64 // of the root; 0 until it was seen
	members map[int]int64
	marker  []byte // in the environment of all of them, unless they took it out
}

func newTree(root int, marker string) *tree {
	return &tree{root: root, members: map[int]int64{}, marker: []byte(marker)}
}

// update takes a table in and returns the members that are alive.
func (t *tree) update(table []process) []int {
	byPID := make(map[int]process, len(table))
	for _, p := range table {
		byPID[p.pid] = p
	}
	if p, ok := byPID[t.root]; ok && t.start == 0 {
		t.start = p.start
	}
	root, ok := byPID[t.root]
	reused := ok && t.start != 0 && root.start != t.start
	for pid, start := range t.members {
		if p, ok := byPID[pid]; !ok || p.start != start {
			delete(t.members, pid)
		}
	}
	for _, p := range table {
		if !reused && (p.pid == t.root || p.session == t.root) {
			t.members[p.pid] = p.start
		}
	}
	for grown := true; grown; {
		grown = false
		for _, p := range table {
			if _, known := t.members[p.pid]; known {
				continue
			}
			if _, ok := t.members[p.parent]; ok && p.parent > 1 {
				t.members[p.pid], grown = p.start, true
			}
		}
	}
	var alive []int
	for pid := range t.members {
		if !byPID[pid].gone {
			alive = append(alive, pid)
		}
	}
	slices.Sort(alive)
	return alive
}

// sweep also looks for processes that left the session and their parents between
// two looks, by the marker that they inherited.
func (t *tree) sweep(table []process) []int {
	for _, p := range table {
		if _, known := t.members[p.pid]; !known && !p.gone && p.pid > 1 && (t.start == 0 || p.start >= t.start) && inherits(p.pid, t.marker) {
			t.members[p.pid] = p.start
		}
	}
	return t.update(table)
}

// signalGroup signals the patient's process group, as a terminal does.
func (t *tree) signalGroup(s syscall.Signal) {
	if err := syscall.Kill(-t.root, s); errors.Is(err, syscall.ESRCH) {
		syscall.Kill(t.root, s) //nolint:errcheck // it is gone then
	}
}

// signalAll signals every process.
func (t *tree) signalAll(s syscall.Signal, alive []int) {
	for _, pid := range alive {
		syscall.Kill(pid, s) //nolint:errcheck // one that is gone is no error
	}
}
