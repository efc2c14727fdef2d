package tuner

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mlxdyno/mlxdyno/trainer"
	"github.com/mlxdyno/mlxdyno/trainer/journal"
)

// What ended a burst from outside, or for want of memory that others had, is
// not met again for ever.
func TestDeathsAreRunAgain(t *testing.T) {
	for _, death := range []trainer.Result{
		{Outcome: trainer.Killed},
		{Outcome: trainer.Crashed, SuspectedOOM: true},
		{Outcome: trainer.OOM},
		{Outcome: trainer.Stalled},
		{Outcome: trainer.Broken},
		{Outcome: trainer.Failed, Failure: &trainer.Failure{FailKind: trainer.FailInternal, Text: "disk full"}},
	} {
		t.Run(string(death.Outcome), func(t *testing.T) {
			m := laptop()
			s := study(m, 8<<30)
			s.Journal = filepath.Join(t.TempDir(), "journal.jsonl")
			m.dies = func(calls int) *trainer.Result {
				if calls == 2 || calls == 3 && death.Outcome == trainer.Killed { // once would be an accident
					return &death
				}
				return nil
			}
			first, err := s.Run(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			key := first.Bursts[1].Key
			m.dies = nil
			second, err := s.Run(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			if b := second.Bursts[0]; !b.Replayed {
				t.Errorf("the first burst was run again: %+v", b)
			}
			if b := second.Bursts[1]; b.Key != key || b.Replayed || !b.Outcome.Good() {
				t.Errorf("the death was not run again: %+v", b)
			}
		})
	}
}

// Journals of before hold deaths, too.
func TestKeptDeathsArePassedOver(t *testing.T) {
	m := laptop()
	s := study(m, 8<<30)
	s.Journal = filepath.Join(t.TempDir(), "journal.jsonl")
	clean, err := s.Run(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	s.Journal = filepath.Join(t.TempDir(), "journal.jsonl")
	j, err := journal.Open(s.Journal)
	if err != nil {
		t.Fatal(err)
	}
	dead := trainer.Burst{Result: trainer.Result{Outcome: trainer.Killed}}
	if err := j.Append(recordKind, burstRecord{Key: clean.Bursts[0].Key, Purpose: "calibrate", Burst: dead}); err != nil {
		t.Fatal(err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	r, err := s.Run(context.Background())
	if err != nil || r.Bursts[0].Replayed || r.Bursts[0].Key != clean.Bursts[0].Key {
		t.Fatalf("%+v, %v", r, err)
	}
}

func TestJournalHasOneWriter(t *testing.T) {
	m := laptop()
	s := study(m, 8<<30)
	s.Journal = filepath.Join(t.TempDir(), "journal.jsonl")
	var second error
	m.onCall = func(n int) error {
		if n == 1 {
			other := study(laptop(), 8<<30)
			other.Journal = s.Journal
			_, second = other.Run(context.Background())
		}
		return nil
	}
	if _, err := s.Run(context.Background()); err != nil {
		t.Fatal(err)
	}
	var busy *BusyError
	if !errors.As(second, &busy) || busy.Journal != s.Journal || !strings.Contains(second.Error(), "wait for it") {
		t.Fatalf("a second search beside the first: %v", second)
	}
	if _, err := s.Run(context.Background()); err != nil {
		t.Fatalf("after the first one: %v", err)
	}
}
