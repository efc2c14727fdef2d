package run

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/renameio/v2"

	"github.com/mlxdyno/mlxdyno/trainer"
)

// SpecSchema names the form of run.json.
const SpecSchema = "mlxdyno/run/1"

// What a run directory holds.
const (
	specName        = "run.json"
	eventsName      = "events.jsonl"
	journalName     = "journal.jsonl"
	checkpointsName = "checkpoints"
	adapterName     = "adapter"
	logName         = "worker.log"
	lockName        = "lock"
)

// Spec is run.json: what the training was last asked to be. What was changed to
// get past a failure is in the journal.
type Spec struct {
	Schema       string                    `json:"schema"`
	Created      time.Time                 `json:"created"`
	Config       trainer.Config            `json:"config"`
	ConfigKey    string                    `json:"config_key"`
	Origins      map[string]trainer.Origin `json:"origins,omitempty"`
	Tokens       trainer.TokenFiles        `json:"tokens"`
	Identity     Identity                  `json:"identity"`
	Expected     *trainer.Expected         `json:"expected,omitempty"`
	GuardBytes   int64                     `json:"guard_bytes,omitempty"`
	ProfileSteps int                       `json:"profile_steps,omitempty"` // steps of which a profile is to be recorded
	Publish      string                    `json:"publish,omitempty"`       // absolute path to which the adapter is copied at the end
}

// Settings are the configuration and where each knob came from. What a flag
// gave counts as given by a file, so that a flag is always one of this call.
func (s Spec) Settings() trainer.Settings {
	origins := map[string]trainer.Origin{}
	for knob, origin := range s.Origins {
		if origin == trainer.FromFlag {
			origin = trainer.FromFile
		}
		origins[knob] = origin
	}
	return trainer.Settings{Config: s.Config, Origins: origins}
}

// NewDir makes an empty directory for a run below home/runs, named after the
// time and the first digits of the configuration's key. No two calls get the
// same one.
func NewDir(home, key string, now time.Time) (string, error) {
	root := filepath.Join(home, "runs")
	if err := os.MkdirAll(root, 0o755); err != nil {
		return "", fmt.Errorf("make run directory: %w", err)
	}
	name := now.Format("2006-01-02-150405") + "-" + key[:min(8, len(key))]
	for n := 1; ; n++ {
		dir := filepath.Join(root, name)
		if n > 1 {
			dir = fmt.Sprintf("%s-%d", dir, n)
		}
		err := os.Mkdir(dir, 0o755)
		if err == nil {
			return dir, nil
		}
		if !errors.Is(err, fs.ErrExist) {
			return "", fmt.Errorf("make run directory: %w", err)
		}
	}
}

// NoRunError says that a directory holds no training.
type NoRunError struct {
	Dir string
	Why string
}

func (e *NoRunError) Error() string {
	return fmt.Sprintf("%s is not a run: %s; mlxdyno runs lists what there is", e.Dir, e.Why)
}

func readSpec(dir string) (Spec, error) {
	b, err := os.ReadFile(filepath.Join(dir, specName))
	if errors.Is(err, fs.ErrNotExist) {
		return Spec{}, &NoRunError{Dir: dir, Why: "it has no " + specName}
	}
	if err != nil {
		return Spec{}, fmt.Errorf("read run: %w", err)
	}
	var head struct {
		Schema string `json:"schema"`
	}
	if err := json.Unmarshal(b, &head); err != nil {
		return Spec{}, &NoRunError{Dir: dir, Why: fmt.Sprintf("its %s is unreadable: %v", specName, err)}
	}
	if head.Schema != SpecSchema {
		return Spec{}, &NoRunError{Dir: dir, Why: fmt.Sprintf("its %s has schema %q where this version knows %q", specName, head.Schema, SpecSchema)}
	}
	var s Spec
	if err := json.Unmarshal(b, &s); err != nil {
		return Spec{}, &NoRunError{Dir: dir, Why: fmt.Sprintf("its %s is unreadable: %v", specName, err)}
	}
	return s, nil
}

// writeSpec is atomic: run.json is whole or as it was.
func writeSpec(dir string, s Spec) error {
	b, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return fmt.Errorf("write run: %w", err)
	}
	if err := renameio.WriteFile(filepath.Join(dir, specName), append(b, '\n'), 0o644, renameio.WithTempDir(dir)); err != nil {
		return fmt.Errorf("write run: %w", err)
	}
	return syncDir(dir)
}

// makeDir makes dir and refuses one that holds anything but a run, whole or
// cut short while it was made.
func makeDir(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make run directory: %w", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("make run directory: %w", err)
	}
	foreign := ""
	for _, e := range entries {
		switch name := e.Name(); {
		case name == specName:
			return nil
		case name == lockName, name == checkpointsName, strings.HasPrefix(name, "."+specName):
		default:
			foreign = name
		}
	}
	if foreign != "" {
		return fmt.Errorf("%s is not empty (%s): choose another directory for the run", dir, foreign)
	}
	return nil
}

// create writes a new run, or one whose making was cut short. run.json, last,
// makes it one; call it with the lock held.
func create(dir string, s Spec) error {
	if _, err := os.Lstat(filepath.Join(dir, specName)); err == nil {
		return fmt.Errorf("%s already holds a run: go on with it (%s) or choose another directory", dir, resumeCommand(dir))
	}
	if err := os.MkdirAll(filepath.Join(dir, checkpointsName), 0o755); err != nil {
		return fmt.Errorf("make run directory: %w", err)
	}
	if err := writeSpec(dir, s); err != nil {
		return err
	}
	return syncDir(filepath.Dir(dir))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("sync directory: %w", err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("sync directory: %w", err)
	}
	return nil
}

func resumeCommand(dir string) string {
	return trainer.CommandLine("mlxdyno", "train", "--resume", dir)
}
