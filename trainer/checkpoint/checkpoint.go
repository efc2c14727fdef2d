// Package checkpoint reads and judges the states that workers save.
//
// A checkpoint is a directory named after the number of steps done, with the
// files of one engine and a manifest.json that lists each with its size and
// SHA-256. The worker writes it beside its final place, syncs it and renames
// it, so that a name of digits alone is meant to be complete; Verify does not
// take that on trust, since disks fill and files get copied by hand. What is
// inside the files is the engine's business.
package checkpoint

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Schema names the form of manifest.json.
const Schema = "mlxdyno/checkpoint/1"

// ManifestName is the file that makes a directory a checkpoint.
const ManifestName = "manifest.json"

const maxManifestBytes = 1 << 20

// Manifest lists what belongs to a checkpoint.
type Manifest struct {
	Schema    string            `json:"schema"`
	Step      int               `json:"step"` // steps of the training done
	ConfigKey string            `json:"config_key"`
	Engine    string            `json:"engine"`
	Versions  map[string]string `json:"versions,omitempty"`
	Files     []File            `json:"files"`
}

// File is one file of a checkpoint.
type File struct {
	Name   string `json:"name"` // plain name, no folders
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"` // lower-case hexadecimal
}

// Bytes is the size of all files together.
func (m Manifest) Bytes() int64 {
	var n int64
	for _, f := range m.Files {
		n += f.Bytes
	}
	return n
}

// DamagedError says why a directory is not a usable checkpoint.
type DamagedError struct {
	Dir     string
	Problem string
}

func (e *DamagedError) Error() string {
	return fmt.Sprintf("checkpoint %s is damaged: %s", e.Dir, e.Problem)
}

// Name is the name of the directory for a state after that many steps.
func Name(step int) string { return fmt.Sprintf("%07d", step) }

// Parse reads a manifest and checks that it makes sense by itself.
func Parse(b []byte) (Manifest, error) {
	var m Manifest
	if err := json.Unmarshal(b, &m); err != nil {
		return Manifest{}, fmt.Errorf("read manifest: %w", err)
	}
	if m.Schema != Schema {
		return Manifest{}, fmt.Errorf("read manifest: schema %q is not %q", m.Schema, Schema)
	}
	if m.Step < 0 {
		return Manifest{}, fmt.Errorf("read manifest: step %d", m.Step)
	}
	if len(m.Files) == 0 {
		return Manifest{}, errors.New("read manifest: it lists no files")
	}
	for _, f := range m.Files {
		if f.Name == "" || f.Name == "." || f.Name == ".." || strings.ContainsAny(f.Name, `/\`) || !filepath.IsLocal(f.Name) {
			return Manifest{}, fmt.Errorf("read manifest: %q is not a plain file name", f.Name)
		}
		if f.Bytes < 0 {
			return Manifest{}, fmt.Errorf("read manifest: %s has %d bytes", f.Name, f.Bytes)
		}
		if sum, err := hex.DecodeString(f.SHA256); err != nil || len(sum) != sha256.Size || f.SHA256 != strings.ToLower(f.SHA256) {
			return Manifest{}, fmt.Errorf("read manifest: %s has no SHA-256", f.Name)
		}
	}
	return m, nil
}

// Read returns the manifest without looking at the files it lists. A missing
// or unreadable manifest is a *DamagedError.
func Read(dir string) (Manifest, error) {
	b, err := readSmall(filepath.Join(dir, ManifestName))
	if err != nil {
		return Manifest{}, &DamagedError{Dir: dir, Problem: ManifestName + ": " + plain(err)}
	}
	m, err := Parse(b)
	if err != nil {
		return Manifest{}, &DamagedError{Dir: dir, Problem: err.Error()}
	}
	if want := Name(m.Step); filepath.Base(dir) != want {
		return Manifest{}, &DamagedError{Dir: dir, Problem: fmt.Sprintf("its manifest is of step %d", m.Step)}
	}
	return m, nil
}

// Verify reads every listed file and compares size and SHA-256. What does not
// fit is a *DamagedError.
func Verify(dir string) (Manifest, error) {
	m, err := Read(dir)
	if err != nil {
		return Manifest{}, err
	}
	for _, f := range m.Files {
		if err := verifyFile(filepath.Join(dir, f.Name), f); err != nil {
			return Manifest{}, &DamagedError{Dir: dir, Problem: fmt.Sprintf("%s: %s", f.Name, plain(err))}
		}
	}
	return m, nil
}

func verifyFile(path string, want File) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return errors.New("not a regular file")
	}
	if info.Size() != want.Bytes {
		return fmt.Errorf("%d bytes instead of %d", info.Size(), want.Bytes)
	}
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return err
	}
	if hex.EncodeToString(h.Sum(nil)) != want.SHA256 {
		return errors.New("its content is not what was saved")
	}
	return nil
}

func readSmall(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxManifestBytes+1))
	if err != nil {
		return nil, err
	}
	if len(b) > maxManifestBytes {
		return nil, fmt.Errorf("more than %d bytes", maxManifestBytes)
	}
	return b, nil
}

// plain leaves out the path, which the message around it already has.
func plain(err error) string {
	if pe := (*fs.PathError)(nil); errors.As(err, &pe) {
		return pe.Op + ": " + pe.Err.Error()
	}
	return err.Error()
}

// stepOf reads a directory name; only names that Name makes count.
func stepOf(name string) (int, bool) {
	n, err := strconv.Atoi(name)
	return n, err == nil && n >= 0 && Name(n) == name
}
