package run

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// PlaceError refuses a place for the finished adapter before anything is trained.
type PlaceError struct{ Path, Why string }

func (e *PlaceError) Error() string {
	return fmt.Sprintf("the adapter cannot go to %s: %s", e.Path, e.Why)
}

// placeFor returns where an adapter that is to go to path will be written, with
// links followed. What is there may be nothing, an empty directory or an older
// adapter, which is moved aside; anything else is not ours to move. A place that
// holds or lies in one of the directories in use is refused, and so is one that
// cannot be written.
func placeFor(path string, inUse ...string) (string, error) {
	refuse := func(format string, args ...any) (string, error) {
		return "", &PlaceError{Path: path, Why: fmt.Sprintf(format, args...)}
	}
	place, err := followLinks(path)
	if err != nil {
		return refuse("%v", err)
	}
	for _, dir := range inUse {
		used, err := followLinks(dir)
		if dir == "" || err != nil {
			continue // it is not there, so it is not in the way
		}
		if within(used, place) || within(place, used) && used != workingDir() {
			return refuse("%s is in use", dir)
		}
	}
	entries, err := os.ReadDir(place)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return refuse("there is something else than a directory, or it cannot be read: %v", err)
	case len(entries) > 0 && !isAdapter(place):
		return refuse("the directory holds something else than an adapter; choose one that is empty or not there yet")
	}
	if err := writable(filepath.Dir(place)); err != nil {
		return refuse("%v", err)
	}
	return place, nil
}

// followLinks resolves as much of path as exists.
func followLinks(path string) (string, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	real, err := filepath.EvalSymlinks(path)
	if err == nil {
		return real, nil
	}
	if !errors.Is(err, fs.ErrNotExist) || path == filepath.Dir(path) {
		return "", err
	}
	if _, err := os.Lstat(path); err == nil {
		return "", fmt.Errorf("%s is a link to nothing", path)
	}
	parent, err := followLinks(filepath.Dir(path))
	return filepath.Join(parent, filepath.Base(path)), err
}

// within reports whether path is dir or lies below it.
func within(path, dir string) bool {
	rel, err := filepath.Rel(dir, path)
	return err == nil && rel != ".." && !strings.HasPrefix(rel, ".."+string(filepath.Separator))
}

// workingDir is where relative paths begin; an adapter may well go below it.
func workingDir() string {
	dir, err := os.Getwd()
	if err != nil {
		return ""
	}
	if real, err := filepath.EvalSymlinks(dir); err == nil {
		return real
	}
	return dir
}

// isAdapter knows an adapter's directory by the file that mlx-lm loads.
func isAdapter(dir string) bool {
	info, err := os.Stat(filepath.Join(dir, "adapters.safetensors"))
	return err == nil && info.Mode().IsRegular()
}

// writable makes sure that something can be made in dir, which may have to be
// made itself.
func writable(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	probe, err := os.MkdirTemp(dir, ".mlxdyno-*")
	if err != nil {
		return err
	}
	return os.Remove(probe)
}
