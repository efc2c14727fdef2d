package command

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

func yourAIStarts(argv []string) int {
	switch strings.TrimSuffix(filepath.Base(argv[0]), ".exe") {
	case "your_ai", "your-ai":
		return 1
	}
	return 0
}

// yourAIFlags are those that its train command has, with whether they take a
// value. It refuses others, and shortens none.
var yourAIFlags = map[string]bool{
	"--model": true, "--batch-size": true, "--lora-rank": true, "--max-steps": true, "--max-memory": true, "--memory-report-interval": true,
	"--auto-optimize": false, "--metrics-file": true, "--save-best": false,
	"--reload-interval": true, "--alpha": true, "--lambda-weight": true, // of its newer branch
	"--resume": true, "--help": false,
}

// keptBy are the names under which trainers of its kind keep results. Which one
// it takes is not documented, and it has no flag for it.
var keptBy = []string{"checkpoints", "checkpoint", "adapters", "adapter", "output", "outputs", "out", "runs", "results", "models"}

func guardYourAI(argv []string, from int, cwd string) ([]string, []Note, error) {
	if from >= len(argv) || argv[from] != "train" {
		return argv, []Note{{Code: "guard.no-training", Text: "your_ai is not asked to train: it is run as it is"}}, nil
	}
	var notes []Note
	long := func(w string) string { return w }
	takes := func(name string) bool { return yourAIFlags[name] }
	flags := scan(argv, from+1, long, map[string]string{"-h": "--help"}, takes)
	if slices.ContainsFunc(flags, func(f option) bool { return f.name == "--help" }) {
		return argv, []Note{{Code: "guard.no-training", Text: "your_ai is asked for help only"}}, nil
	}
	for _, f := range flags {
		if _, ok := yourAIFlags[f.name]; !ok {
			notes = append(notes, Note{Code: "guard.unknown-flag", Text: fmt.Sprintf("your_ai train is not known to have the flag %s and will refuse it if it has none", f.name)})
		}
		if f.name == "--resume" {
			notes = append(notes, Note{Code: "guard.resume-ignored", Text: "your_ai ignores --resume: it starts anew"})
		}
	}
	kept, err := keptIn(cwd)
	if err != nil {
		return nil, nil, fmt.Errorf("guard patient: look into %s: %w", cwd, err)
	}
	if len(kept) > 0 {
		return nil, notes, fmt.Errorf("guard patient: your_ai has no flag for where it saves, and %s has %s: results of an earlier run may be overwritten; run it in an empty directory, with --model as an absolute path",
			cwd, strings.Join(kept, ", "))
	}
	argv, redirected, err := redirectMetrics(argv, flags, cwd)
	if err != nil {
		return nil, nil, err
	}
	notes = append(notes, redirected...)
	return argv, append(notes, Note{Code: "guard.free", Text: fmt.Sprintf("your_ai saves below %s, where nothing looks like earlier results", cwd)}), nil
}

// redirectMetrics keeps a metrics file that has something in it.
func redirectMetrics(argv []string, flags []option, cwd string) ([]string, []Note, error) {
	i := slices.IndexFunc(flags, func(f option) bool { return f.name == "--metrics-file" })
	if i < 0 {
		return argv, nil, nil
	}
	f := flags[i]
	info, err := os.Stat(in(cwd, f.value))
	if errors.Is(err, fs.ErrNotExist) || err == nil && info.Mode().IsRegular() && info.Size() == 0 {
		return argv, nil, nil
	}
	if err != nil {
		return nil, nil, fmt.Errorf("guard patient: look at its metrics file: %w", err)
	}
	dir, err := os.MkdirTemp("", "mlxdyno-patient-")
	if err != nil {
		return nil, nil, fmt.Errorf("guard patient: make a directory for its metrics: %w", err)
	}
	path := filepath.Join(dir, filepath.Base(f.value))
	argv[f.at] = rewritten(argv[f.at], f, path)
	return argv, []Note{{Code: "guard.redirected", Dir: dir, Text: fmt.Sprintf("%s exists already: the metrics of this run go to %s instead (--metrics-file)", f.value, path)}}, nil
}

// keptIn lists what looks like the results of a training.
func keptIn(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, e := range entries {
		name := e.Name()
		switch {
		case strings.HasSuffix(name, ".safetensors"):
			out = append(out, name)
		case slices.Contains(keptBy, strings.ToLower(name)):
			if used, err := inUse(filepath.Join(dir, name)); err != nil || used {
				out = append(out, name+string(filepath.Separator))
			}
		}
	}
	return out, nil
}
