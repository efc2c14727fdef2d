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

// experiment is a second burst with a suspected cause switched off.
type experiment struct {
	of         string // code of the finding that it puts to the proof
	change     string
	cacheLimit int64 // bytes; 0 leaves the cache as it is
	env        []string
}

// suspected is the experiment for what was found; false when nothing that can
// be switched off was. A growing cache is held to what it had at first.
func suspected(r diagnose.Report) (experiment, bool) {
	for _, f := range r.Findings {
		if f.Severity != probe.Warn && f.Severity != probe.Fail {
			continue
		}
		switch {
		case f.Code == patient.CacheGrowth:
			limit := max(r.Patient.Of(patient.Cache).First, leastCache)
			return experiment{of: f.Code, change: "with a cache limit of " + trainer.FormatBytes(limit), cacheLimit: limit}, true
		case f.Code == patient.ShapeGrowth && r.Patient.Grows(patient.Footprint) != nil:
			return experiment{of: f.Code, change: "with MLX's compilation off", env: []string{"MLX_DISABLE_COMPILE=1"}}, true
		}
	}
	return experiment{}, false
}

// runAgain runs a command once more, as the experiment says.
func (a *app) runAgain(ctx context.Context, p *patientFlags, adapters []command.Adapter, e experiment) (*patient.Again, error) {
	env := append(os.Environ(), e.env...)
	if e.cacheLimit > 0 {
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
		env = append(env, "PYTHONPATH="+path, fmt.Sprintf("MLXDYNO_CACHE_LIMIT=%d", e.cacheLimit))
	}
	a.progress("once more, %s", e.change)
	var record patient.Record
	second := *p
	if second.transcript != "" {
		second.transcript = strings.TrimSuffix(second.transcript, ".log") + ".again.log"
	}
	if err := a.runPatient(ctx, &second, adapters, env, &record); err != nil {
		return nil, err
	}
	return &patient.Again{Of: e.of, Change: e.change, Report: patient.Judge(record)}, nil
}
