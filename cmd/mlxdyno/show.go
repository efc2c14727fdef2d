package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/mlxdyno/mlxdyno/trainer"
	"github.com/mlxdyno/mlxdyno/tuner"
)

// keptStudy is what a search left behind.
type keptStudy struct {
	report tuner.Report
	when   time.Time
}

// newest returns the last study of a home that is wanted, or nil.
func newest(home string, wanted func(*keptStudy) bool) *keptStudy {
	return newestIn(filepath.Join(home, "tune", "*"), wanted)
}

// newestIn does so for the directories of a pattern.
func newestIn(dirs string, wanted func(*keptStudy) bool) *keptStudy {
	paths, _ := filepath.Glob(filepath.Join(dirs, "*.json")) // the pattern is well-formed
	var best *keptStudy
	for _, path := range paths {
		info, err := os.Stat(path)
		if err != nil || best != nil && !info.ModTime().After(best.when) {
			continue
		}
		b, err := os.ReadFile(path)
		if err != nil {
			continue // removed meanwhile: another one may do
		}
		var r tuner.Report
		if json.Unmarshal(b, &r) != nil || r.Schema != tuner.Schema {
			continue // another version's
		}
		if kept := (&keptStudy{report: r, when: info.ModTime()}); wanted(kept) {
			best = kept
		}
	}
	return best
}

// showStudy prints the last study of this subject. Where there is none, it says
// what has changed since the last one that was like it.
func (a *app) showStudy(ctx context.Context, s *subject) error {
	keys := s.keys(s.snapshot(ctx))
	kept := newest(s.home, func(k *keptStudy) bool { return len(changes(k.report.Keys, keys)) == 0 })
	if kept == nil {
		text := "no search over this model and data has been kept"
		if other := newest(s.home, func(k *keptStudy) bool { return k.report.Keys.Model == keys.Model || k.report.Keys.Data == keys.Data }); other != nil {
			text += fmt.Sprintf("; since the one of %s changed: %s", other.when.Format(time.DateTime), strings.Join(changes(other.report.Keys, keys), ", "))
		}
		return &userError{Code: "tune.none", Message: text, Hint: "run mlxdyno tune with the same flags, without --show", Status: statusOurs}
	}
	a.progress("searched on %s; nothing was run now", kept.when.Format(time.DateTime))
	file := cmp.Or(kept.report.File, "mlxdyno.yaml")
	if !holds(file, kept.report.Config) {
		a.progress("%s does not hold what this search found any more: run it again, which repeats no burst, and it is written", file)
	}
	return a.print(kept.report, func() error { return a.printTune(&kept.report, file) })
}

// holds reports whether a file has that configuration.
func holds(path string, c trainer.Config) bool {
	f, err := trainer.ReadFile(path)
	return err == nil && f.Settings.Config.Key() == c.Key()
}
