package run

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/mlxdyno/mlxdyno/trainer/checkpoint"
)

// Info is one line of a list of runs.
type Info struct {
	Dir     string    `json:"dir"`
	Created time.Time `json:"created,omitzero"`
	State   State     `json:"state,omitempty"` // empty when Problem is not
	Model   string    `json:"model,omitempty"`
	Done    int       `json:"steps_done"` // as far as checkpoints or the end tell
	Steps   int       `json:"steps"`
	Bytes   int64     `json:"bytes"`
	Problem string    `json:"problem,omitempty"` // why it cannot be read
}

// removing marks a run whose removal has begun.
const removing = ".removing-"

// List returns the runs below home, newest first.
func List(home string) ([]Info, error) {
	root := filepath.Join(home, "runs")
	entries, err := os.ReadDir(root)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list runs: %w", err)
	}
	var out []Info
	for _, e := range entries {
		if e.IsDir() && !strings.HasPrefix(e.Name(), ".") {
			out = append(out, inform(filepath.Join(root, e.Name())))
		}
	}
	slices.SortStableFunc(out, func(a, b Info) int {
		return cmp.Or(b.Created.Compare(a.Created), cmp.Compare(b.Dir, a.Dir))
	})
	return out, nil
}

func inform(dir string) Info {
	info := Info{Dir: dir}
	var problem error
	info.Bytes, problem = bytesBelow(dir)
	r, err := Open(dir)
	if err = errors.Join(problem, err); err != nil {
		info.Problem = err.Error()
		return info
	}
	past, err := readHistory(dir, r.Spec)
	if err != nil {
		info.Problem = err.Error()
		return info
	}
	info.Created, info.State, info.Model, info.Steps = r.Spec.Created, r.State, r.Spec.Config.Model.Path, past.config.Schedule.Steps
	if n := len(past.segments); n > 0 {
		info.Done = past.segments[n-1].LastStep
	}
	refs, err := checkpoint.List(filepath.Join(dir, checkpointsName))
	if err != nil {
		info.Problem = err.Error()
	} else if n := len(refs); n > 0 {
		info.Done = max(info.Done, refs[n-1].Step)
	}
	return info
}

func bytesBelow(dir string) (int64, error) {
	var n int64
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) { // a running training renames and removes
			return nil
		}
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err == nil {
			n += info.Size()
		}
		return err
	})
	return n, err
}

// PruneOptions say which runs go.
type PruneOptions struct {
	Keep       int  // this many of the newest runs stay
	Unfinished bool // also runs that could still be resumed
	DryRun     bool // only say which
}

// Prune removes old runs below home and returns them. A running one stays, and
// so does, unless Unfinished asks for it, one that could be resumed.
func Prune(ctx context.Context, home string, o PruneOptions) ([]Info, error) {
	if o.Keep < 0 {
		return nil, fmt.Errorf("prune runs: cannot keep %d of them; use 0 or more", o.Keep)
	}
	infos, err := List(home)
	if err != nil {
		return nil, err
	}
	if !o.DryRun {
		if err := clearRemoved(filepath.Join(home, "runs")); err != nil {
			return nil, err
		}
	}
	var gone []Info
	for _, info := range infos[min(o.Keep, len(infos)):] {
		if info.Problem != "" || info.State == StateRunning || info.State != StateFinished && !o.Unfinished {
			continue
		}
		if !o.DryRun {
			err := remove(ctx, info.Dir)
			if busy := (*BusyError)(nil); errors.As(err, &busy) {
				continue
			}
			if err != nil {
				return gone, err
			}
		}
		gone = append(gone, info)
	}
	return gone, nil
}

// clearRemoved ends removals that were cut short.
func clearRemoved(root string) error {
	doomed, err := filepath.Glob(filepath.Join(root, removing+"*"))
	for _, dir := range doomed {
		err = errors.Join(err, os.RemoveAll(dir))
	}
	if err != nil {
		return fmt.Errorf("remove run: %w", err)
	}
	return nil
}

// remove takes a run away under its lock, so that nobody starts it meanwhile.
func remove(ctx context.Context, dir string) error {
	l, err := acquire(ctx, dir, filepath.Join(dir, lockName))
	if err != nil {
		return err
	}
	doomed := filepath.Join(filepath.Dir(dir), removing+filepath.Base(dir))
	err = os.Rename(dir, doomed)
	if err == nil {
		err = os.RemoveAll(doomed)
	}
	if err = errors.Join(err, l.file.Close()); err != nil {
		return fmt.Errorf("remove run: %w", err)
	}
	return nil
}

// Find returns the directory of the run that a person means: a path, the name
// of a run below home, or "last" for the newest one.
func Find(home, name string) (string, error) {
	if name == "last" {
		infos, err := List(home)
		if err != nil {
			return "", err
		}
		if len(infos) == 0 {
			return "", &NoRunError{Dir: filepath.Join(home, "runs"), Why: "there are no runs yet"}
		}
		return infos[0].Dir, nil
	}
	for _, dir := range []string{name, filepath.Join(home, "runs", name)} {
		if _, err := os.Stat(filepath.Join(dir, specName)); err == nil {
			return filepath.Abs(dir)
		}
	}
	return "", &NoRunError{Dir: name, Why: "neither the directory nor a run of that name holds a " + specName}
}
