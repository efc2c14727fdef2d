package probe

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"
)

// Crash is something that ended processes or the machine, as the system noted
// it down.
type Crash struct {
	Kind      CrashKind    `json:"kind"`
	At        time.Time    `json:"at,omitzero"`         // zero when the system does not say
	Text      string       `json:"text"`                // the system's own words, one line
	Component string       `json:"component,omitempty"` // of the kernel, such as IOGPUMemory.cpp
	Process   string       `json:"process,omitempty"`   // that was killed, or ran when the machine stopped
	PID       int32        `json:"pid,omitempty"`
	Bytes     Value[int64] `json:"bytes"`             // what that process held
	Largest   string       `json:"largest,omitempty"` // the process that held most
	Source    string       `json:"source"`            // file, or kernel log
}

// CrashKind says what kind of end it was.
type CrashKind string

const (
	CrashPanic  CrashKind = "panic"  // the kernel stopped, and the machine with it
	CrashJetsam CrashKind = "jetsam" // macOS killed processes for want of memory
	CrashOOM    CrashKind = "oom"    // Linux did
	CrashGPU    CrashKind = "gpu"    // NVIDIA's driver reset or lost work
)

// LastRun is a training of ours that did not end well, as its journal tells.
// The caller fills it in: where trainings are kept is not this package's
// subject.
type LastRun struct {
	Dir     string       `json:"dir"`
	State   string       `json:"state"` // died or failed
	At      time.Time    `json:"at"`    // of the last thing that it wrote
	Step    int          `json:"step"`  // steps done
	Steps   int          `json:"steps"` // planned
	Doing   string       `json:"doing"` // at its end
	Outcome string       `json:"outcome,omitempty"`
	Why     string       `json:"why,omitempty"`     // as it said itself
	Peak    Value[int64] `json:"peak_bytes"`        // of its last step
	Held    Value[int64] `json:"footprint_bytes"`   // of its process, after its last step
	Resume  string       `json:"resume,omitempty"`  // command that goes on
	Smaller string       `json:"smaller,omitempty"` // command that starts again with less memory
}

const (
	crashesShown = 10
	crashesAge   = 30 * 24 * time.Hour
	crashBytes   = 8 << 20 // of one report; the largest are below one
)

// crashReports reads the reports that macOS wrote into directories, the newest
// first. A directory that is not there has none.
func crashReports(dirs []fs.FS, names []string, now time.Time) ([]Crash, error) {
	type file struct {
		dir  fs.FS
		path string // below dir
		full string
		at   time.Time
	}
	var files []file
	var problems []error
	for i, dir := range dirs {
		for _, sub := range []string{".", "Retired"} {
			entries, err := fs.ReadDir(dir, sub)
			if err != nil {
				if !errors.Is(err, fs.ErrNotExist) {
					problems = append(problems, fmt.Errorf("%s: %w", path.Join(names[i], sub), fileProblem(err)))
				}
				continue
			}
			for _, e := range entries {
				info, err := e.Info()
				if err != nil || !isCrashReport(e.Name()) || now.Sub(info.ModTime()) > crashesAge {
					continue
				}
				files = append(files, file{dir, path.Join(sub, e.Name()), path.Join(names[i], sub, e.Name()), info.ModTime()})
			}
		}
	}
	slices.SortFunc(files, func(a, b file) int { return cmp.Or(b.at.Compare(a.at), cmp.Compare(a.full, b.full)) })
	var out []Crash
	for _, f := range files[:min(len(files), crashesShown)] {
		text, err := readSome(f.dir, f.path)
		if err != nil {
			problems = append(problems, fmt.Errorf("%s: %w", f.full, fileProblem(err)))
			continue
		}
		c, err := decodeCrashReport(text)
		if err != nil {
			problems = append(problems, fmt.Errorf("%s: %w", f.full, err))
			continue
		}
		if c.At.IsZero() {
			c.At = f.at.UTC()
		}
		c.Source = f.full
		out = append(out, c)
	}
	slices.SortStableFunc(out, func(a, b Crash) int { return b.At.Compare(a.At) })
	return out, errors.Join(problems...)
}

func isCrashReport(name string) bool {
	return strings.HasPrefix(name, "panic-full-") && strings.HasSuffix(name, ".panic") ||
		strings.HasPrefix(name, "panic-full-") && strings.HasSuffix(name, ".ips") ||
		strings.HasPrefix(name, "JetsamEvent-") && strings.HasSuffix(name, ".ips")
}

func readSome(dir fs.FS, name string) (string, error) {
	f, err := dir.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, crashBytes))
	return string(text), err
}

// crashReader looks for crashes through find; what could not be looked at is
// told, and hides none that was found.
func crashReader(source string, find func(now time.Time) ([]Crash, error)) reader {
	return reader{
		read: func(_ context.Context, s *Snapshot) {
			crashes, err := find(s.At)
			s.Crashes = slices.DeleteFunc(crashes, func(c Crash) bool { return !c.At.IsZero() && s.At.Sub(c.At) > crashesAge })
			if err != nil {
				s.CrashesFound = Unknown[int](firstLineOf(err.Error()), source)
				return
			}
			s.CrashesFound = Known(len(s.Crashes), source)
		},
		fills: func(s *Snapshot) []any { return []any{&s.Crashes, &s.CrashesFound} },
	}
}

func firstLineOf(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}
