package install

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/google/renameio/v2"

	"github.com/mlxdyno/mlxdyno/mlxbind/shim"
)

const (
	stampSchema = "mlxdyno/environment/1"
	stampName   = "stamp.json"
	maxStamp    = 1 << 20

	fixSetup = "mlxdyno setup"
)

// stamp is what Ensure leaves behind for Find.
type stamp struct {
	Schema      string            `json:"schema"`
	At          time.Time         `json:"at"`
	Env         Env               `json:"environment"`
	Kind        string            `json:"kind"`                   // of wheel: cpu, metal, cuda12 or cuda13
	Recipe      string            `json:"recipe,omitempty"`       // of a managed environment
	ShimKey     string            `json:"shim_key"`               // hash of what Env.Shim was made of
	Root        string            `json:"root"`                   // directory of the virtual environment
	AskedPython string            `json:"asked_python,omitempty"` // Options.Python
	Files       []string          `json:"files"`                  // all of which must be there
	Packages    map[string]string `json:"packages"`               // everything installed
	SelfTest    SelfTest          `json:"self_test"`
}

// Find returns the environment that Ensure made or adopted in home. It starts
// no process. The error is a *NotReadyError unless the stamp could not be read.
func Find(home string) (Env, error) {
	s, err := readStamp(home)
	if err != nil {
		return Env{}, err
	}
	return s.Env, nil
}

func readStamp(home string) (*stamp, error) {
	file, err := os.Open(filepath.Join(home, stampName))
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR):
		reason := "there is none in " + home
		if len(environments(home)) > 0 {
			reason = "a set-up in " + home + " has not finished"
		}
		return nil, &NotReadyError{Missing, reason, fixSetup}
	case err != nil:
		return nil, fmt.Errorf("read the environment's stamp: %w", err)
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, maxStamp+1))
	if err != nil {
		return nil, fmt.Errorf("read the environment's stamp: %w", err)
	}
	s, err := decodeStamp(data)
	if err != nil {
		return nil, err
	}
	s.Env.Home = home // it may have been reached by another name
	return s, s.check()
}

// decodeStamp reads a stamp's text; every error is a *NotReadyError.
func decodeStamp(data []byte) (*stamp, error) {
	damaged := func(why string) error {
		return &NotReadyError{Broken, "its stamp is damaged: " + why, fixSetup}
	}
	if len(data) > maxStamp {
		return nil, damaged("too long")
	}
	var head struct {
		Schema string `json:"schema"`
	}
	if err := json.Unmarshal(data, &head); err != nil {
		return nil, damaged(err.Error())
	}
	if head.Schema != stampSchema {
		return nil, &NotReadyError{Stale, fmt.Sprintf("it was set up by another version of mlxdyno (%q)", head.Schema), fixSetup}
	}
	var s stamp
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&s); err != nil {
		return nil, damaged(err.Error())
	}
	if s.Env.Shim != "" && !filepath.IsAbs(s.Env.Shim) || !filepath.IsAbs(s.Env.Python) || !filepath.IsAbs(s.Root) || len(s.Files) == 0 || backendOf(s.Kind) != s.Env.Backend {
		return nil, damaged("it says too little")
	}
	return &s, nil
}

// check compares what the stamp says with this program and with the disk.
func (s *stamp) check() error {
	if err := s.whole(); err != nil {
		return err
	}
	return s.bound()
}

// whole checks everything but the shim.
func (s *stamp) whole() error {
	if s.Env.Managed {
		want, err := recipe(s.Kind)
		if err != nil {
			return err
		}
		if s.Recipe != want {
			return &NotReadyError{Stale, "this version of mlxdyno uses other packages than it holds", fixSetup}
		}
	}
	for _, path := range append([]string{s.Env.Python}, s.Files...) {
		if path == s.Env.Shim {
			continue
		}
		if _, err := os.Stat(path); err != nil {
			fix := fixSetup
			if !s.Env.Managed {
				fix = "mlxdyno setup --venv " + shellWord(s.Root)
			}
			return &NotReadyError{Broken, path + " is gone", fix}
		}
	}
	return nil
}

// bound checks the shim, which is made anew without the rest.
func (s *stamp) bound() error {
	switch {
	case s.Env.Shim == "":
		return &NotReadyError{Stale, "it was set up by a version of mlxdyno that had no binding to MLX, and only that will be added", fixSetup}
	case s.ShimKey != shim.Hash():
		return &NotReadyError{Stale, "its binding to MLX is of another version of mlxdyno, and only that will be made anew", fixSetup}
	}
	if _, err := os.Stat(s.Env.Shim); err != nil {
		return &NotReadyError{Broken, "the binding to MLX, " + s.Env.Shim + ", is gone, and only that will be made anew", fixSetup}
	}
	return nil
}

// shellWord is s as a shell takes it.
func shellWord(s string) string {
	const plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_@%+=:,./-"
	if s != "" && strings.Trim(s, plain) == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

func (s *stamp) write(home string) error {
	data, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return fmt.Errorf("encode the environment's stamp: %w", err)
	}
	if err := renameio.WriteFile(filepath.Join(home, stampName), append(data, '\n'), 0o644); err != nil {
		return fmt.Errorf("write the environment's stamp: %w", err)
	}
	return nil
}
