package checkpoint

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/mlxdyno/mlxdyno/trainer"
)

// removing marks a checkpoint whose removal has begun.
const removing = ".removing-"

// damagedSuffix marks a checkpoint that was moved aside.
const damagedSuffix = ".damaged"

// List returns the checkpoints below root by their names, oldest first,
// without judging them. A root that does not exist holds none.
func List(root string) ([]trainer.CheckpointRef, error) {
	entries, err := os.ReadDir(root)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list checkpoints: %w", err)
	}
	var refs []trainer.CheckpointRef
	for _, e := range entries {
		if step, ok := stepOf(e.Name()); ok && e.IsDir() {
			refs = append(refs, trainer.CheckpointRef{Step: step, Dir: filepath.Join(root, e.Name())})
		}
	}
	slices.SortFunc(refs, func(a, b trainer.CheckpointRef) int { return cmp.Compare(a.Step, b.Step) })
	return refs, nil
}

// Newest returns the checkpoint with the most steps that passes Verify, nil
// when there is none, and what was wrong with every newer one.
func Newest(root string) (*trainer.CheckpointRef, []*DamagedError, error) {
	refs, err := List(root)
	if err != nil {
		return nil, nil, err
	}
	var bad []*DamagedError
	for _, ref := range slices.Backward(refs) {
		_, err := Verify(ref.Dir)
		if err == nil {
			return &ref, bad, nil
		}
		var d *DamagedError
		if !errors.As(err, &d) {
			return nil, bad, err
		}
		bad = append(bad, d)
	}
	return nil, bad, nil
}

// SetAside renames a checkpoint so that it no longer counts as one and its
// name is free again. It returns the new path; a directory that was set aside
// under the same name before gives way.
func SetAside(dir string) (string, error) {
	to := dir + damagedSuffix
	if err := os.RemoveAll(to); err != nil {
		return "", fmt.Errorf("set checkpoint aside: %w", err)
	}
	if err := os.Rename(dir, to); err != nil {
		return "", fmt.Errorf("set checkpoint aside: %w", err)
	}
	return to, nil
}

// Retain removes all but the keep newest checkpoints. A crash half way leaves
// no checkpoint with files missing: each is renamed first.
func Retain(root string, keep int) error {
	refs, err := List(root)
	if err != nil {
		return err
	}
	for _, ref := range refs[:max(0, len(refs)-keep)] {
		doomed := filepath.Join(root, removing+filepath.Base(ref.Dir))
		if err := os.Rename(ref.Dir, doomed); err != nil {
			return fmt.Errorf("remove old checkpoint: %w", err)
		}
		if err := os.RemoveAll(doomed); err != nil {
			return fmt.Errorf("remove old checkpoint: %w", err)
		}
	}
	return nil
}

// Sweep removes what unfinished saves and removals left below root: hidden
// entries. Call it only while no worker writes there.
func Sweep(root string) error {
	entries, err := os.ReadDir(root)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("sweep checkpoints: %w", err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") {
			if err := os.RemoveAll(filepath.Join(root, e.Name())); err != nil {
				return fmt.Errorf("sweep checkpoints: %w", err)
			}
		}
	}
	return nil
}
