package command

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"
)

// Note is something that Guard has seen or done.
type Note struct {
	Code string // stable, dotted
	Text string // a sentence for a person
	Dir  string // a directory that was made for the patient's results; the caller's to remove
}

// Guard keeps a patient from overwriting its own results. Where the command has
// a flag for them and they exist, it returns a command line that writes into a
// new directory instead; where it has none, an error. A command that is not
// known is returned as it is, with a note that says so. cwd is the directory in
// which the command will run.
func Guard(argv []string, cwd string) ([]string, []Note, error) {
	if len(argv) == 0 || argv[0] == "" {
		return nil, nil, errors.New("guard patient: no command")
	}
	argv = slices.Clone(argv)
	if i, ok := find(argv, mlxlmTrains); ok {
		return guardMLXLM(argv, i, cwd)
	}
	if i, ok := find(argv, yourAIStarts); ok {
		return guardYourAI(argv, i, cwd)
	}
	text := fmt.Sprintf("%s is not a trainer that is known here: it is run as it is and writes where it always does", filepath.Base(argv[0]))
	if slices.ContainsFunc(argv, func(a string) bool {
		return strings.Contains(a, "mlx_lm") || strings.Contains(a, "your_ai")
	}) {
		text += "; a trainer that is started by a shell or a script cannot be kept from overwriting its results: name it directly"
	}
	return argv, []Note{{Code: "guard.unknown", Text: text}}, nil
}

// wrappers start what follows their own arguments.
var wrappers = []string{
	"env", "nohup", "nice", "time", "caffeinate", "sudo", "uv", "uvx", "poetry", "pixi", "pdm", "rye", "hatch", "conda", "mamba", "micromamba",
	"stdbuf", "taskpolicy", "mlx.launch", "arch", "exec", "command", "setsid", "numactl", "taskset",
}

var pythonName = regexp.MustCompile(`^(python|pypy)[\d.]*t?$`)

// find looks for a trainer at the start of argv or behind wrappers. starts
// returns where the trainer's own arguments begin, or 0.
func find(argv []string, starts func(argv []string) int) (int, bool) {
	for i := range argv {
		if n := starts(argv[i:]); n > 0 {
			return i + n, true
		}
		if i == 0 && !slices.Contains(wrappers, filepath.Base(argv[0])) {
			return 0, false
		}
	}
	return 0, false
}

// module returns what a Python command runs, and where its arguments begin.
func module(argv []string) (name string, next int) {
	if !pythonName.MatchString(filepath.Base(argv[0])) {
		return "", 0
	}
	for i := 1; i < len(argv); i++ {
		switch a := argv[i]; {
		case a == "-m" && i+1 < len(argv):
			return argv[i+1], i + 2
		case strings.HasPrefix(a, "-m") && len(a) > 2:
			return a[2:], i + 1
		case a == "-W" || a == "-X":
			i++
		case a == "-c", !strings.HasPrefix(a, "-"):
			if strings.HasSuffix(filepath.ToSlash(a), "mlx_lm/lora.py") {
				return "mlx_lm.lora", i + 1
			}
			if filepath.Base(a) == "mlx_lm.lora" || filepath.Base(a) == "mlx_lm" { // the installed script
				return filepath.Base(a), i + 1
			}
			return "", 0
		}
	}
	return "", 0
}

func mlxlmTrains(argv []string) int {
	name, next := filepath.Base(argv[0]), 1
	if m, n := module(argv); n > 0 {
		name, next = m, n
	}
	switch {
	case name == "mlx_lm.lora":
		return next
	case name == "mlx_lm" && next < len(argv) && argv[next] == "lora":
		return next + 1
	}
	return 0
}

// mlxlmFlags are the long flags of mlx_lm.lora, which may be shortened as far as
// only one is meant.
var mlxlmFlags = []string{
	"--help", "--model", "--train", "--data", "--fine-tune-type", "--optimizer", "--mask-prompt", "--num-layers", "--batch-size", "--iters",
	"--val-batches", "--learning-rate", "--steps-per-report", "--steps-per-eval", "--grad-accumulation-steps", "--resume-adapter-file",
	"--adapter-path", "--save-every", "--test", "--test-batches", "--max-seq-length", "--config", "--grad-checkpoint",
	"--clear-cache-threshold", "--report-to", "--project-name", "--seed", "--trust-remote-code",
}

var mlxlmSwitches = []string{"--help", "--train", "--mask-prompt", "--test", "--grad-checkpoint", "--trust-remote-code"}

// option is a flag that a command line has, with the place of its value.
type option struct {
	name  string
	value string
	at    int  // of the word that holds the value
	own   bool // that word is the value and nothing else
}

// scan reads flags as Python's argparse and most others do.
func scan(argv []string, from int, long func(string) string, short map[string]string, takes func(string) bool) []option {
	var out []option
	for i := from; i < len(argv); i++ {
		a := argv[i]
		if a == "--" {
			break
		}
		if len(a) < 2 || a[0] != '-' {
			continue
		}
		word, value, joined := strings.Cut(a, "=")
		name := ""
		switch {
		case strings.HasPrefix(a, "--"):
			name = long(word)
		case short[a[:2]] != "":
			name = short[a[:2]]
			if !joined && len(a) > 2 {
				value, joined = a[2:], true
			}
		}
		f := option{name: name, value: value, at: i}
		if !joined && takes(name) {
			if i+1 >= len(argv) {
				break // the patient will say so itself
			}
			i++
			f.value, f.at, f.own = argv[i], i, true
		}
		if name != "" {
			out = append(out, f)
		}
	}
	return out
}

// abbreviated returns the flag that a shortened one means, or nothing.
func abbreviated(word string, all []string) string {
	meant := ""
	for _, f := range all {
		if f == word {
			return f
		}
		if strings.HasPrefix(f, word) {
			if meant != "" {
				return ""
			}
			meant = f
		}
	}
	return meant
}

func guardMLXLM(argv []string, from int, cwd string) ([]string, []Note, error) {
	long := func(w string) string { return abbreviated(w, mlxlmFlags) }
	takes := func(name string) bool { return name != "" && !slices.Contains(mlxlmSwitches, name) }
	flags := scan(argv, from, long, map[string]string{"-c": "--config", "-h": "--help"}, takes)
	var paths []option
	var train, help bool
	config := ""
	for _, f := range flags {
		switch f.name {
		case "--adapter-path":
			paths = append(paths, f)
		case "--config":
			config = f.value
		case "--train":
			train = true
		case "--help":
			help = true
		}
	}
	path := "adapters" // mlx-lm's default
	if config != "" {
		c, err := readMLXLMConfig(in(cwd, config))
		if err != nil {
			return nil, nil, fmt.Errorf("guard patient: where mlx_lm writes is not known: %w", err)
		}
		train = train || c.train
		path = c.adapterPath
	}
	if len(paths) > 0 {
		path = paths[len(paths)-1].value
	}
	if help || !train {
		return argv, []Note{{Code: "guard.no-training", Text: "mlx_lm is not asked to train: it writes no adapters"}}, nil
	}
	full := in(cwd, path)
	used, err := inUse(full)
	if err != nil {
		return nil, nil, fmt.Errorf("guard patient: look into its adapter path: %w", err)
	}
	if !used {
		return argv, []Note{{Code: "guard.free", Text: fmt.Sprintf("its adapters go to %s, where nothing is yet", full)}}, nil
	}
	dir, err := os.MkdirTemp("", "mlxdyno-patient-")
	if err != nil {
		return nil, nil, fmt.Errorf("guard patient: make a directory for its adapters: %w", err)
	}
	for _, p := range paths {
		argv[p.at] = rewritten(argv[p.at], p, dir)
	}
	if len(paths) == 0 {
		argv = slices.Insert(argv, from, "--adapter-path", dir)
	}
	return argv, []Note{{
		Code: "guard.redirected", Dir: dir,
		Text: fmt.Sprintf("%s has adapters already, which this run would overwrite: its own go to %s instead (--adapter-path)", full, dir),
	}}, nil
}

// rewritten puts another value into the word that holds a flag's.
func rewritten(word string, f option, value string) string {
	if f.own {
		return value
	}
	return strings.TrimSuffix(word, f.value) + value
}

type mlxlmConfig struct {
	adapterPath string
	train       bool
}

// readMLXLMConfig reads the keys of mlx_lm's configuration that matter here.
func readMLXLMConfig(path string) (mlxlmConfig, error) {
	const limit = 1 << 20
	info, err := os.Stat(path)
	if err != nil {
		return mlxlmConfig{}, fmt.Errorf("read its configuration: %w", err)
	}
	if !info.Mode().IsRegular() || info.Size() > limit {
		return mlxlmConfig{}, fmt.Errorf("read its configuration %s: want a plain file of at most %d bytes", path, limit)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return mlxlmConfig{}, fmt.Errorf("read its configuration: %w", err)
	}
	c, err := parseMLXLMConfig(text)
	if err != nil {
		return c, fmt.Errorf("read its configuration %s: %w", path, err)
	}
	return c, nil
}

func parseMLXLMConfig(text []byte) (mlxlmConfig, error) {
	c := mlxlmConfig{adapterPath: "adapters"}
	var keys map[string]any
	if err := yaml.Load(text, &keys); err != nil {
		return c, err
	}
	switch v := keys["adapter_path"].(type) {
	case nil:
	case string:
		c.adapterPath = v
	default:
		return c, fmt.Errorf("adapter_path is %v, which is no path", v)
	}
	switch v := keys["train"].(type) {
	case nil:
	case bool:
		c.train = v
	case string:
		c.train = !slices.Contains([]string{"", "no", "off"}, strings.ToLower(v)) // Python's YAML has these words for false; any other text counts as true
	case int:
		c.train = v != 0
	default:
		c.train = true
	}
	return c, nil
}

func in(cwd, path string) string {
	if filepath.IsAbs(path) {
		return filepath.Clean(path)
	}
	return filepath.Join(cwd, path)
}

// inUse reports whether there is a directory with anything in it.
func inUse(path string) (bool, error) {
	entries, err := os.ReadDir(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if info, statErr := os.Stat(path); err != nil && statErr == nil && !info.IsDir() {
		return false, fmt.Errorf("%s is a file, not a directory", path)
	}
	return len(entries) > 0, err
}
