package main

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/mlxdyno/mlxdyno/probe"
	"github.com/mlxdyno/mlxdyno/trainer"
	"github.com/mlxdyno/mlxdyno/tuner"
)

// keys are what a study's results hold for.
func (s *subject) keys(snapshot probe.Snapshot) tuner.Keys {
	return tuner.Keys{Program: programKey(), Machine: s.machineKey(snapshot), Model: s.facts.Key, Data: s.set.Key, Versions: s.env.Versions}
}

// studies is the directory of the studies that have these keys.
func (s *subject) studies(keys tuner.Keys) string { return filepath.Join(s.home, "tune", hashOf(keys)) }

// machineKey says what measurements of time and memory hold for: the machine, what
// computes on it, and what in the environment steers that.
func (s *subject) machineKey(snapshot probe.Snapshot) string {
	parts := []string{runtime.GOOS, runtime.GOARCH, snapshot.Host.Chip.Or("unknown chip"), s.env.Backend, s.env.BLAS,
		fmt.Sprintf("%d cores", runtime.GOMAXPROCS(0)), trainer.FormatBytes(snapshot.Memory.TotalBytes.Or(0))}
	return strings.Join(append(parts, steering(os.Environ())...), ", ")
}

// steering are the variables by which MLX and its BLAS are told how to compute:
// workers inherit them.
func steering(environ []string) []string {
	var out []string
	for _, pair := range environ {
		name, value, _ := strings.Cut(pair, "=")
		if value != "" && (strings.HasPrefix(name, "MLX_") || strings.HasSuffix(name, "_NUM_THREADS") || name == "VECLIB_MAXIMUM_THREADS") {
			out = append(out, pair)
		}
	}
	slices.Sort(out)
	return out
}

// built is a version that says everything about what it was built from.
var built = regexp.MustCompile(`^(v\d+\.\d+\.\d+\S*|[0-9a-f]{7,40})$`)

// programKey names this program as far as it decides what a burst measures: by
// its version, or, when that leaves open what was built, by the program itself.
func programKey() string {
	self, err := os.Executable()
	if err != nil {
		return Version
	}
	return programOf(Version, self)
}

func programOf(version, path string) string {
	if built.MatchString(version) && !strings.HasSuffix(version, "-dirty") {
		return version
	}
	f, err := os.Open(path)
	if err != nil {
		return version
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return version
	}
	return fmt.Sprintf("%s, build %s", version, hex.EncodeToString(h.Sum(nil)[:6]))
}

// changes names what a study's keys have otherwise than now.
func changes(then, now tuner.Keys) []string {
	var out []string
	differ := func(what, a, b string) {
		if a != b {
			out = append(out, fmt.Sprintf("%s (%s, now %s)", what, cmp.Or(a, "none"), cmp.Or(b, "none")))
		}
	}
	if then.Model != now.Model {
		out = append(out, "the model")
	}
	if then.Data != now.Data {
		out = append(out, "the data")
	}
	differ("the machine", then.Machine, now.Machine)
	differ("mlxdyno", then.Program, now.Program)
	names := slices.Collect(maps.Keys(then.Versions))
	names = slices.AppendSeq(names, maps.Keys(now.Versions))
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		differ(name, then.Versions[name], now.Versions[name])
	}
	return out
}

// passedOver says why bursts that are kept of this model or data are run again,
// when a study has none of its own yet.
func (a *app) passedOver(home string, study *tuner.Study) []string {
	if _, ok := tuner.KeysOf(study.Journal); ok {
		return nil
	}
	then, when, ok := lastKeys(home, func(k tuner.Keys) bool { return k.Model == study.Keys.Model || k.Data == study.Keys.Data })
	if !ok {
		return nil
	}
	changed := changes(then, study.Keys)
	if len(changed) == 0 {
		return nil // forgotten with --fresh
	}
	a.progress("since the bursts of %s changed: %s; bursts are run again", when.Format(time.DateTime), strings.Join(changed, ", "))
	return changed
}

// lastKeys returns the keys of the bursts of a home that were kept last, of those
// that are wanted, and when that was.
func lastKeys(home string, wanted func(tuner.Keys) bool) (last tuner.Keys, when time.Time, found bool) {
	paths, _ := filepath.Glob(filepath.Join(home, "tune", "*", "journal.jsonl")) // the pattern is well-formed
	for _, path := range paths {
		info, err := os.Stat(path)
		if err != nil || found && !info.ModTime().After(when) {
			continue
		}
		if keys, ok := keysOf(path); ok && wanted(keys) {
			last, when, found = keys, info.ModTime(), true
		}
	}
	return last, when, found
}

// keysOf reads a journal's keys. Those of before do not say them; the studies
// beside them do.
func keysOf(path string) (tuner.Keys, bool) {
	if keys, ok := tuner.KeysOf(path); ok {
		return keys, true
	}
	if kept := newestIn(filepath.Dir(path), func(*keptStudy) bool { return true }); kept != nil {
		return kept.report.Keys, true
	}
	return tuner.Keys{}, false
}
