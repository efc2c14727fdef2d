package demo

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/shirou/gopsutil/v3/load"
)

//go:embed scripts/*.py
var scripts embed.FS

const (
	lockPoll  = 100 * time.Millisecond
	killDelay = 5 * time.Second // after ctx ended, for the pipes to close
	tailBytes = 4096            // of standard error kept for a message
)

// result is what the scripts say in the end.
type result struct {
	Base     Base           `json:"base"`
	Rows     map[string]int `json:"rows,omitempty"`
	Question string         `json:"question,omitempty"`
	Seconds  float64        `json:"seconds"`
}

// PythonError says that the scripts failed, with the end of what they printed.
type PythonError struct {
	Stage string // last thing that had been done
	Tail  string // of standard error
	Err   error
}

func (e *PythonError) Error() string {
	last := strings.TrimSpace(e.Tail)
	last = last[strings.LastIndexByte(last, '\n')+1:]
	if last == "" {
		last = e.Err.Error()
	}
	if e.Stage == "" {
		return "python failed at the start: " + last
	}
	return fmt.Sprintf("python failed after %q: %s", e.Stage, last)
}

func (e *PythonError) Unwrap() error { return e.Err }

// versions asks Python for everything beside the plan on which the result
// depends, without importing any of it.
const versions = `import sys, importlib.metadata as m
print(sys.version, *(f"{p} {m.version(p)}" for p in ("mlx", "mlx-lm", "tokenizers", "numpy")))`

// key identifies what p makes with this Python.
func (o Options) key(ctx context.Context, p plan) (string, error) {
	cmd := o.command(ctx, "-c", versions)
	var stderr tail
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		if ctx.Err() != nil {
			return "", ctx.Err()
		}
		return "", &PythonError{Tail: stderr.String(), Err: fmt.Errorf("ask %s for its versions: %w", o.Python, err)}
	}
	h := sha256.New()
	h.Write(out)
	if err := json.NewEncoder(h).Encode(p); err != nil {
		return "", fmt.Errorf("encode plan: %w", err)
	}
	err = eachScript(func(name string, text []byte) error {
		fmt.Fprintf(h, "%s %d\n", name, len(text))
		h.Write(text)
		return nil
	})
	return hex.EncodeToString(h.Sum(nil)[:12]), err
}

// run carries out p and returns what the scripts say of it.
func (o Options) run(ctx context.Context, p plan) (result, error) {
	dir, err := os.MkdirTemp("", "mlxdyno-demo-*")
	if err != nil {
		return result{}, fmt.Errorf("make directory for scripts: %w", err)
	}
	defer os.RemoveAll(dir)
	err = eachScript(func(name string, text []byte) error {
		return os.WriteFile(filepath.Join(dir, name), text, 0o644)
	})
	if err != nil {
		return result{}, fmt.Errorf("write scripts: %w", err)
	}
	if p.Directory, err = filepath.Abs(p.Directory); err != nil {
		return result{}, fmt.Errorf("resolve directory: %w", err)
	}
	spec, err := json.Marshal(p)
	if err != nil {
		return result{}, fmt.Errorf("encode plan: %w", err)
	}

	cmd := o.command(ctx, "-u", filepath.Join(dir, "make.py"))
	threads := p.Threads
	if threads == 0 {
		threads = idleCores()
	}
	cmd.Env = append(cmd.Env, fmt.Sprintf("OPENBLAS_NUM_THREADS=%d", threads))
	cmd.Stdin = bytes.NewReader(spec)
	var stderr tail
	cmd.Stderr = &stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return result{}, fmt.Errorf("make pipe: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return result{}, fmt.Errorf("start %s: %w", o.Python, err)
	}
	made, stage := o.follow(stdout)
	err = cmd.Wait()
	switch {
	case ctx.Err() != nil:
		return result{}, ctx.Err()
	case err == nil && made != nil:
		return *made, nil
	case err == nil:
		err = errors.New("it ended without a result")
	}
	return result{}, &PythonError{Stage: stage, Tail: stderr.String(), Err: err}
}

// follow reads what the scripts say until they close their output. Libraries
// may print lines of their own among it; they are passed over.
func (o Options) follow(r io.Reader) (made *result, stage string) {
	in := bufio.NewScanner(r)
	in.Buffer(nil, 1<<20)
	for in.Scan() {
		var line struct {
			Stage  string  `json:"stage"`
			Detail string  `json:"detail"`
			Result *result `json:"result"`
		}
		if json.Unmarshal(in.Bytes(), &line) != nil {
			continue
		}
		if line.Result != nil {
			made = line.Result
		}
		if line.Stage != "" {
			stage = line.Stage
			if o.Progress != nil {
				o.Progress(line.Stage, line.Detail)
			}
		}
	}
	_, _ = io.Copy(io.Discard, r) // an overlong line must not block the writer
	return made, stage
}

// command starts the interpreter such that nothing is fetched, no bytecode is
// left behind, and MLX compiles no kernel, which on a CPU costs more than it
// saves here.
func (o Options) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, o.Python, args...)
	env := o.Environ
	if env == nil {
		env = os.Environ()
	}
	cmd.Env = append(env[:len(env):len(env)],
		"HF_HUB_OFFLINE=1", "PYTHONDONTWRITEBYTECODE=1", "PYTHONHASHSEED=0", "PYTHONUTF8=1", "MLX_DISABLE_COMPILE=1",
		"TRANSFORMERS_VERBOSITY=error")
	cmd.WaitDelay = killDelay
	return cmd
}

// idleCores is how many cores others leave, at least one. OpenBLAS's threads
// wait for each other after every product: more of them than idle cores make
// it several times slower than one alone.
func idleCores() int {
	cores := runtime.GOMAXPROCS(0)
	if avg, err := load.Avg(); err == nil {
		cores -= int(math.Round(avg.Load1))
	}
	return max(1, cores)
}

func eachScript(do func(name string, text []byte) error) error {
	names, err := fs.Glob(scripts, "scripts/*.py")
	if err != nil {
		return err
	}
	for _, name := range names {
		text, err := scripts.ReadFile(name)
		if err != nil {
			return err
		}
		if err := do(filepath.Base(name), text); err != nil {
			return err
		}
	}
	return nil
}

// tail keeps the last bytes written to it.
type tail struct{ b []byte }

func (t *tail) Write(p []byte) (int, error) {
	t.b = append(t.b, p...)
	if len(t.b) > tailBytes {
		t.b = append(t.b[:0], t.b[len(t.b)-tailBytes:]...)
	}
	return len(p), nil
}

func (t *tail) String() string { return string(t.b) }
