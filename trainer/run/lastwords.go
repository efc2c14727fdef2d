package run

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/mlxdyno/mlxdyno/trainer"
	"github.com/mlxdyno/mlxdyno/trainer/wire"
)

// LastWords is what a training was doing that did not end well, as far as the
// ends of its files tell: enough to say after a crash what ran, without reading
// every event of a long training.
type LastWords struct {
	Dir      string
	State    State     // StateDied or StateFailed
	At       time.Time // of the last thing that was written
	Step     int       // steps done
	Steps    int       // planned
	Doing    string    // what it did at the end, in the past tense, without a subject
	Outcome  trainer.Outcome
	Failure  *Failure // nil when nobody said why
	Memory   trainer.Memory
	Settings trainer.Settings // in force at the end
	Resume   string           // command that goes on
}

// lastEvents is how much of the end of the events is read.
const lastEvents = 256 << 10

// Last returns the last words of the newest run below home. It is nil when that
// ended well, was interrupted by somebody, still runs, or is not there.
func Last(home string) (*LastWords, error) {
	root := filepath.Join(home, "runs")
	entries, err := os.ReadDir(root)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look for the last run: %w", err)
	}
	slices.Reverse(entries) // names begin with the time
	for _, e := range entries {
		if !e.IsDir() || strings.HasPrefix(e.Name(), ".") {
			continue
		}
		r, err := Open(filepath.Join(root, e.Name()))
		if errors.As(err, new(*NoRunError)) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if r.State != StateDied && r.State != StateFailed {
			return nil, nil
		}
		return r.lastWords()
	}
	return nil, nil
}

func (r Run) lastWords() (*LastWords, error) {
	past, err := readHistory(r.Dir, r.Spec)
	if err != nil {
		return nil, err
	}
	w := &LastWords{Dir: r.Dir, State: r.State, At: r.Spec.Created, Steps: past.config.Schedule.Steps, Settings: r.Spec.Settings()}
	w.Settings.Config = past.config
	if f := past.finish; f != nil {
		w.Failure = f.Failure
	}
	if n := len(past.segments); n > 0 {
		w.Outcome, w.Step = past.segments[n-1].Outcome, past.segments[n-1].LastStep
	}
	for _, name := range []string{journalName, eventsName} {
		if info, err := os.Stat(filepath.Join(r.Dir, name)); err == nil && info.ModTime().After(w.At) {
			w.At = info.ModTime()
		}
	}
	w.At = w.At.UTC()
	w.Doing = "was starting its worker"
	if err := w.listen(filepath.Join(r.Dir, eventsName)); err != nil {
		return nil, err
	}
	if refs, err := onDisk(filepath.Join(r.Dir, checkpointsName)); err == nil && (len(refs) > 0 || r.State == StateDied || w.Step > 0) {
		w.Resume = resumeCommand(r.Dir)
	}
	return w, nil
}

// listen hears the last events out.
func (w *LastWords) listen(path string) error {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the last events: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("read the last events: %w", err)
	}
	from := max(info.Size()-lastEvents, 0)
	events := wire.NewReader(io.NewSectionReader(f, from, info.Size()-from))
	for first := from > 0; ; first = false {
		e, err := events.Next()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case errors.As(err, new(*wire.LineError)), first:
			continue // torn at either end
		case errors.As(err, new(*wire.VersionError)):
			continue
		case err != nil:
			return fmt.Errorf("read the last events: %w", err)
		}
		w.hear(e)
	}
}

func (w *LastWords) hear(e trainer.Event) {
	switch p := e.Payload.(type) {
	case trainer.Hello:
		w.Doing = "loaded the model"
	case trainer.Ready:
		w.Doing, w.Memory = "ran its first step, which compiles and allocates", p.Memory
	case trainer.Step:
		w.Step, w.Memory = e.Step, p.Memory
		w.Doing = fmt.Sprintf("ran step %d; the one before had %d × %d tokens", e.Step+1, p.Shape.Batch, p.Shape.Width-1)
	case trainer.Eval:
		w.Doing = fmt.Sprintf("went on after the validation at step %d", e.Step)
	case trainer.Checkpoint:
		w.Doing = fmt.Sprintf("went on after saving its state at step %d", e.Step)
	case trainer.Done:
		w.Doing = "ended its worker"
	case trainer.Failure:
		w.Doing = fmt.Sprintf("ran step %d, and said: %s", e.Step+1, p.Text)
	}
}
