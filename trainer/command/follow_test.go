package command

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func stepLine(n int) string {
	return fmt.Sprintf("Iter %d: Train loss 2.500, Learning Rate 1.000e-05, It/sec 1.000, Tokens/sec 100.000, Trained Tokens %d, Peak mem 1.000 GB\n", n, 100*n)
}

// followed is a log that grows while it is read.
type followed struct {
	t      *testing.T
	path   string
	steps  chan int
	report chan LogReport
	stop   context.CancelFunc
}

func follow(t *testing.T, path string) *followed {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	f := &followed{t: t, path: path, steps: make(chan int, 1000), report: make(chan LogReport, 1), stop: cancel}
	go func() {
		r, err := FollowLog(ctx, path, true, LogOptions{Adapters: []Adapter{MLXLM()}, Poll: time.Millisecond, OnReading: func(r Reading) error {
			if n, ok := r.Step.Get(); ok {
				f.steps <- n
			}
			return nil
		}})
		if err != nil {
			t.Error(err)
		}
		f.report <- r
	}()
	return f
}

func (f *followed) write(flags int, text string) {
	f.t.Helper()
	file, err := os.OpenFile(f.path, os.O_WRONLY|os.O_CREATE|flags, 0o644)
	if err != nil {
		f.t.Fatal(err)
	}
	defer file.Close()
	if _, err := file.WriteString(text); err != nil {
		f.t.Fatal(err)
	}
}

// sees waits for steps in this order.
func (f *followed) sees(want ...int) {
	f.t.Helper()
	for _, n := range want {
		select {
		case got := <-f.steps:
			if got != n {
				f.t.Fatalf("step %d, want %d", got, n)
			}
		case <-time.After(30 * time.Second):
			f.t.Fatalf("step %d was never read", n)
		}
	}
}

// ends stops following and returns the report.
func (f *followed) ends() LogReport {
	f.stop()
	return <-f.report
}

func TestFollowALogThatGrows(t *testing.T) {
	path := filepath.Join(t.TempDir(), "train.log")
	if err := os.WriteFile(path, []byte(stepLine(1)), 0o644); err != nil {
		t.Fatal(err)
	}
	f := follow(t, path)
	f.sees(1)
	half := stepLine(2)
	f.write(os.O_APPEND, half[:20])
	f.write(os.O_APPEND, half[20:]+stepLine(3))
	f.sees(2, 3)
	f.write(os.O_APPEND, strings.TrimSuffix(stepLine(4), "\n")) // no newline yet
	r := f.ends()
	if len(r.Observations.Points) != 3 || len(r.Notes) != 0 {
		t.Errorf("%d points, notes %q, want 3 whole lines", len(r.Observations.Points), r.Notes)
	}
}

func TestFollowALogThatIsRotated(t *testing.T) {
	path := filepath.Join(t.TempDir(), "train.log")
	if err := os.WriteFile(path, []byte(stepLine(1)+"half a li"), 0o644); err != nil {
		t.Fatal(err)
	}
	f := follow(t, path)
	f.sees(1)
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	f.write(os.O_EXCL, stepLine(2))
	f.sees(2)
	r := f.ends()
	if notes := strings.Join(r.Notes, "\n"); !strings.Contains(notes, "replaced by another file") || r.Observations.LastStep.Or(0) != 2 {
		t.Errorf("notes %q, last step %v", notes, r.Observations.LastStep)
	}
}

func TestFollowALogThatIsCut(t *testing.T) {
	path := filepath.Join(t.TempDir(), "train.log")
	if err := os.WriteFile(path, []byte(stepLine(1)+stepLine(2)+stepLine(3)), 0o644); err != nil {
		t.Fatal(err)
	}
	f := follow(t, path)
	f.sees(1, 2, 3)
	f.write(os.O_TRUNC, stepLine(7))
	f.sees(7)
	if notes := strings.Join(f.ends().Notes, "\n"); !strings.Contains(notes, "was cut") {
		t.Errorf("notes %q", notes)
	}
}

func TestFollowALogThatIsGoneForAWhile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "train.log")
	if err := os.WriteFile(path, []byte(stepLine(1)), 0o644); err != nil {
		t.Fatal(err)
	}
	f := follow(t, path)
	f.sees(1)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	time.Sleep(20 * time.Millisecond) // a few looks
	f.write(os.O_EXCL, stepLine(2))
	f.sees(2)
	f.ends()
}

// TestLogsThatAreNone are refused in words, and odd ones read as far as they go.
func TestLogsThatAreNone(t *testing.T) {
	dir := t.TempDir()
	for name, c := range map[string]struct{ text, says, note string }{
		"gzip":    {"\x1f\x8b\x08\x00", "gunzip", ""},
		"binary":  {strings.Repeat("\x00\x01\xfe\xff", 500), "it is binary", ""},
		"utf16":   {"\xff\xfeI\x00t\x00", "iconv", ""},
		"empty":   {"", "", "the log is empty"},
		"no end":  {strings.TrimSuffix(stepLine(1), "\n"), "", ""},
		"a hole":  {stepLine(1) + "\x00\x00\x00\n" + stepLine(2), "", "zero bytes"},
		"endless": {strings.Repeat("x", MaxLine+10) + "\n" + stepLine(1), "", "longer than"},
	} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(c.text), 0o644); err != nil {
			t.Fatal(err)
		}
		r, err := FollowLog(t.Context(), path, false, LogOptions{})
		switch {
		case c.says != "":
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%s: %v, want %q", name, err, c.says)
			}
		case err != nil:
			t.Errorf("%s: %v", name, err)
		case !strings.Contains(strings.Join(r.Notes, "\n"), c.note):
			t.Errorf("%s: notes %q, want %q", name, r.Notes, c.note)
		case name != "empty" && r.Observations.LastStep.Or(0) < 1:
			t.Errorf("%s: no step was read", name)
		}
	}
}
