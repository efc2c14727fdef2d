package run

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/mlxdyno/mlxdyno/trainer"
)

// TestAnySequenceOfDeathsLosesNothing takes the directory as it is at an
// arbitrary event, which is what a killed parent leaves, tears the last lines,
// goes on from there, and again.
func TestAnySequenceOfDeathsLosesNothing(t *testing.T) {
	t.Parallel()
	for seed := range uint64(24) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			r := rand.New(rand.NewPCG(seed, 0))
			pick := func(of ...string) string { return of[r.IntN(len(of))] }
			p := plan(t, "reload-interval", pick("0", "3", "7", "20"), "save-every", pick("1", "4", "6"))
			for range r.IntN(5) {
				grave := filepath.Join(t.TempDir(), "run")
				dieAt := 1 + r.IntN(40)
				s := &sim{fate: times(r.IntN(3), 1+r.IntN(30), result(trainer.Crashed))}
				_, err := train(context.Background(), p, &counting{call: func(n int) {
					if n == dieAt {
						if err := os.CopyFS(grave, os.DirFS(p.Dir)); err != nil {
							t.Error(err)
						}
					}
				}}, s.run)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := os.Stat(grave); err != nil { // it ended before it could die
					break
				}
				for _, name := range []string{eventsName, journalName} {
					if r.IntN(2) == 0 {
						appendTo(t, filepath.Join(grave, name), `{"kind":"step","segm`)
					}
				}
				p.Dir, p.Resume = grave, true
				if r, err := Load(grave); err != nil || r.State != StateDied || r.ResumeCommand == "" {
					t.Fatalf("after death: %s, %v", r.State, err)
				}
			}
			if r, err := Load(p.Dir); err != nil || r.State != StateFinished {
				must(t, context.Background(), p, &sim{})
			}
			if r := wantWhole(t, p.Dir, 20); r.Totals.UnrecordedSteps != 0 {
				t.Errorf("%d steps without a record", r.Totals.UnrecordedSteps)
			}
		})
	}
}

func appendTo(t *testing.T, path, text string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(text); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// counting is an Observer that counts events.
type counting struct {
	n    int
	call func(int)
}

func (c *counting) Event(trainer.Event) { c.n++; c.call(c.n) }
func (c *counting) Note(Note)           {}
