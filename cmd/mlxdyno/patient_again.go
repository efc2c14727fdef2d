package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/mlxdyno/mlxdyno/probe"
	"github.com/mlxdyno/mlxdyno/probe/diagnose"
	"github.com/mlxdyno/mlxdyno/probe/patient"
	"github.com/mlxdyno/mlxdyno/trainer"
	"github.com/mlxdyno/mlxdyno/trainer/command"
)

// limited is what Python runs before a program's first line when it finds it on
// its path. It bounds MLX's cache, also against the program's own wishes.
const limited = `import os

try:
    import mlx.core as mx

    limit = int(os.environ["MLXDYNO_CACHE_LIMIT"])
    mx.set_cache_limit(limit)
    mx.set_cache_limit = lambda n: limit
except Exception:  # an interpreter without MLX
    pass
`

// leastCache is not so low that steps allocate all their buffers anew.
const leastCache = 16 << 20

// suspectedCache is the limit with which a growing cache is put to the proof:
// what it had at first.
func suspectedCache(r diagnose.Report) (int64, bool) {
	for _, f := range r.Findings {
		if f.Code == "patient.cache-growth" && (f.Severity == probe.Warn || f.Severity == probe.Fail) {
			return max(r.Patient.Of(patient.Cache).First, leastCache), true
		}
	}
	return 0, false
}

// runAgain runs a command once more with its cache bounded.
func (a *app) runAgain(ctx context.Context, p *patientFlags, adapters []command.Adapter, limit int64) (*patient.Again, error) {
	dir, err := os.MkdirTemp("", "mlxdyno-again-")
	if err != nil {
		return nil, fmt.Errorf("prepare a second burst: %w", err)
	}
	defer os.RemoveAll(dir)
	if err := os.WriteFile(filepath.Join(dir, "sitecustomize.py"), []byte(limited), 0o644); err != nil {
		return nil, fmt.Errorf("prepare a second burst: %w", err)
	}
	path := dir
	if before := os.Getenv("PYTHONPATH"); before != "" {
		path += string(os.PathListSeparator) + before
	}
	change := "with a cache limit of " + trainer.FormatBytes(limit)
	a.progress("once more, %s", change)
	env := append(os.Environ(), "PYTHONPATH="+path, fmt.Sprintf("MLXDYNO_CACHE_LIMIT=%d", limit))
	var record patient.Record
	second := *p
	if second.transcript != "" {
		second.transcript = strings.TrimSuffix(second.transcript, ".log") + ".again.log"
	}
	if err := a.runPatient(ctx, &second, adapters, env, &record); err != nil {
		return nil, err
	}
	return &patient.Again{Change: change, CacheLimit: limit, Report: patient.Judge(record)}, nil
}
