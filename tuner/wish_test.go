package tuner

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/mlxdyno/mlxdyno/trainer"
)

func TestWhatIsAskedIsChecked(t *testing.T) {
	set := func(t *testing.T, s *Study, knob, value string) {
		t.Helper()
		if err := s.Base.Set(knob, value, trainer.FromFlag); err != nil {
			t.Fatal(err)
		}
	}
	tests := []struct {
		name   string
		change func(*testing.T, *Study)
		words  []string // each begins one problem
	}{
		{"one bit", func(_ *testing.T, s *Study) { s.Wishes.MinBits = 1 }, []string{"min-bits: 1"}},
		{"twelve bits", func(_ *testing.T, s *Study) { s.Wishes.MinBits = 12 }, []string{"min-bits: 12"}},
		{"negative bits", func(_ *testing.T, s *Study) { s.Wishes.MinBits = -4 }, []string{"min-bits: -4"}},
		{"rank 0", func(_ *testing.T, s *Study) { s.Wishes.Ranks = []int{8, 0} }, []string{"ranks: 0"}},
		{"negative effective batch", func(_ *testing.T, s *Study) { s.Wishes.EffectiveBatch = -1 }, []string{"effective-batch: -1"}},
		{"negative memory", func(_ *testing.T, s *Study) { s.Wishes.MaxMemory = -1 }, []string{"max-memory: -1"}},
		{"negative time", func(_ *testing.T, s *Study) { s.Wishes.Budget = -1 }, []string{"budget: -1ns"}},
		{"unknown order", func(_ *testing.T, s *Study) { s.Wishes.Prefer = "beauty" }, []string{`prefer: "beauty"`}},
		{"all at once", func(_ *testing.T, s *Study) { s.Wishes = Wishes{MinBits: 9, Ranks: []int{-1}, MaxMemory: -2} },
			[]string{"min-bits: 9", "ranks: -1", "max-memory: -2"}},
		{"no rows", func(_ *testing.T, s *Study) { s.Lengths, s.Prompts = nil, nil }, []string{"the training split has no rows"}},
		{"fewer rows than a batch", func(t *testing.T, s *Study) {
			s.Lengths, s.Prompts = s.Lengths[:3], s.Prompts[:3]
			set(t, s, "batch-size", "4")
		}, []string{"the training split has 3 rows"}},
		{"no multiple", func(t *testing.T, s *Study) { s.Wishes.EffectiveBatch = 8; set(t, s, "batch-size", "3") },
			[]string{"an effective batch of 8 is no multiple"}},
		{"rows longer than the model takes", func(_ *testing.T, s *Study) { s.Facts.MaxPositions = 128 }, []string{"the model takes 128 positions"}},
		{"unknown memory", func(_ *testing.T, s *Study) { s.Limit = Limit{} }, []string{"the memory that the training may use is unknown"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := laptop()
			s := study(m, 8<<30)
			tt.change(t, &s)
			_, err := s.Run(context.Background())
			var wish *WishError
			if !errors.As(err, &wish) || len(wish.Problems) != len(tt.words) || m.calls > 0 {
				t.Fatalf("%v after %d bursts, want %q", err, m.calls, tt.words)
			}
			for i, word := range tt.words {
				p := wish.Problems[i]
				if !strings.HasPrefix(p.Text, word) || p.Hint == "" || !strings.Contains(err.Error(), p.Text) || !strings.Contains(wish.Hint(), p.Hint) {
					t.Errorf("%q (%q), want %q and a hint", p.Text, p.Hint, word)
				}
			}
		})
	}
	for _, bits := range []int{0, 2, 3, 4, 5, 6, 7, 8, 16} {
		if err := (Wishes{MinBits: bits, Ranks: []int{1, 64}, EffectiveBatch: 1, MaxMemory: 1, Prefer: Memory}).validate(); err != nil {
			t.Errorf("%d bits: %v", bits, err)
		}
	}
}

func TestMaxMemoryIsTheLimit(t *testing.T) {
	tests := []struct {
		name        string
		limit, most int64
		want        Limit
	}{
		{"not given", 8 << 30, 0, Limit{8 << 30, "test"}},
		{"tighter", 8 << 30, 2 << 30, Limit{2 << 30, "--max-memory"}},
		{"wider", 8 << 30, 9 << 30, Limit{8 << 30, "test"}},
		{"for an unknown limit", 0, 2 << 30, Limit{2 << 30, "--max-memory"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := study(laptop(), tt.limit)
			s.Wishes.MaxMemory = tt.most
			r, err := s.prepare()
			if err != nil || r.report.Limit != tt.want {
				t.Fatalf("%+v, %v; want %+v", r, err, tt.want)
			}
		})
	}
}
