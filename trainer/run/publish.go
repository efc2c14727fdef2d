package run

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// publish copies the adapter directory from to the path to, which then holds
// all of it or what it held before. Something else at to is moved aside, never
// removed; where it went is returned.
func publish(from, to string, now time.Time) (aside string, err error) {
	fail := func(err error) (string, error) { return "", fmt.Errorf("publish adapter: %w", err) }
	same, err := sameFiles(from, to)
	if err != nil {
		return fail(err)
	}
	if same {
		return "", nil
	}
	parent := filepath.Dir(to)
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return fail(err)
	}
	temp, err := os.MkdirTemp(parent, "."+filepath.Base(to)+"-*")
	if err != nil {
		return fail(err)
	}
	defer os.RemoveAll(temp) // gone already when all went well
	if err := os.Chmod(temp, 0o755); err != nil {
		return fail(err)
	}
	if err := copyFiles(from, temp); err != nil {
		return fail(err)
	}
	aside, err = moveAside(to, now)
	if err != nil {
		return fail(err)
	}
	if err := os.Rename(temp, to); err != nil {
		if aside != "" {
			err = errors.Join(err, os.Rename(aside, to))
		}
		return fail(err)
	}
	if err := syncDir(parent); err != nil {
		return fail(err)
	}
	return aside, nil
}

// moveAside renames what is at path; an empty directory just goes.
func moveAside(path string, now time.Time) (string, error) {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	if info.IsDir() && os.Remove(path) == nil { // only an empty one can be removed
		return "", nil
	}
	base := path + ".bak-" + now.Format("20060102-150405")
	for n := 1; ; n++ {
		aside := base
		if n > 1 {
			aside = fmt.Sprintf("%s-%d", base, n)
		}
		if _, err := os.Lstat(aside); errors.Is(err, fs.ErrNotExist) {
			return aside, os.Rename(path, aside)
		} else if err != nil {
			return "", err
		}
	}
}

func copyFiles(from, to string) error {
	entries, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	if len(entries) == 0 {
		return fmt.Errorf("%s is empty", from)
	}
	for _, e := range entries {
		if !e.Type().IsRegular() {
			return fmt.Errorf("%s is not a regular file", filepath.Join(from, e.Name()))
		}
		if err := copyFile(filepath.Join(from, e.Name()), filepath.Join(to, e.Name())); err != nil {
			return err
		}
	}
	return syncDir(to)
}

func copyFile(from, to string) (err error) {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	if _, err := io.Copy(out, in); err != nil {
		return err
	}
	return out.Sync()
}

// sameFiles reports whether two directories hold the same files, byte for byte.
func sameFiles(a, b string) (bool, error) {
	left, err := os.ReadDir(a)
	if err != nil {
		return false, err
	}
	right, err := os.ReadDir(b)
	if err != nil || len(left) != len(right) { // b may be missing or a file
		return false, nil
	}
	for i := range left {
		if left[i].Name() != right[i].Name() || !left[i].Type().IsRegular() || !right[i].Type().IsRegular() {
			return false, nil
		}
		same, err := sameFile(filepath.Join(a, left[i].Name()), filepath.Join(b, right[i].Name()))
		if err != nil || !same {
			return false, err
		}
	}
	return true, nil
}

func sameFile(a, b string) (bool, error) {
	x, err := os.ReadFile(a)
	if err != nil {
		return false, err
	}
	y, err := os.ReadFile(b)
	if err != nil {
		return false, err
	}
	return bytes.Equal(x, y), nil
}
