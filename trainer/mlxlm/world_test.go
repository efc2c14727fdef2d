package mlxlm_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/mlxdyno/mlxdyno/mlxbind/install"
	"github.com/mlxdyno/mlxdyno/trainer"
	"github.com/mlxdyno/mlxdyno/trainer/data"
	"github.com/mlxdyno/mlxdyno/trainer/mlxlm"
	"github.com/mlxdyno/mlxdyno/trainer/worker"
)

// installed is the environment that `make setup` made; without one a test fails.
func installed(t testing.TB) install.Env {
	t.Helper()
	home, err := install.Home()
	if err != nil {
		t.Fatal(err)
	}
	e, err := install.Find(home)
	if err != nil {
		t.Fatalf("%v (make setup, or name its home in MLXDYNO_HOME)", err)
	}
	return e
}

// environment has one BLAS thread: their number decides the last bits, and one
// keeps tests that run side by side from holding each other up.
func environment(t testing.TB) mlxlm.Options {
	t.Helper()
	e := installed(t)
	return mlxlm.Options{Python: e.Python, Environ: append(e.Environ(), "OPENBLAS_NUM_THREADS=1", "OMP_NUM_THREADS=1")}
}

func runPython(t testing.TB, stdin any, args ...string) []byte {
	t.Helper()
	in, err := json.Marshal(stdin)
	if err != nil {
		t.Fatal(err)
	}
	o := environment(t)
	cmd := exec.CommandContext(t.Context(), o.Python, append([]string{"-I", "-X", "utf8"}, args...)...)
	cmd.Env, cmd.Stdin = o.Environ, bytes.NewReader(in)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("python %v: %v\n%s", args, err, stderr.Bytes())
	}
	out = bytes.TrimSpace(out)
	return out[bytes.LastIndexByte(out, '\n')+1:]
}

// world is a tiny model and text in tokens, made once below root.
type world struct {
	model, text string
	set         *data.Set
}

var (
	root     string
	made     world
	makeOnce sync.Once
)

func theWorld(t testing.TB) world {
	t.Helper()
	makeOnce.Do(func() {
		w := world{model: filepath.Join(root, "model"), text: filepath.Join(root, "text")}
		runPython(t, nil, "testdata/model.py", w.model)
		if err := os.MkdirAll(w.text, 0o755); err != nil {
			t.Fatal(err)
		}
		for split, rows := range map[string]int{"train": 26, "valid": 5} {
			if err := os.WriteFile(filepath.Join(w.text, split+".jsonl"), []byte(text(rows)), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		o := environment(t)
		var err error
		w.set, err = data.Prepare(t.Context(),
			data.Options{Python: o.Python, Environ: o.Environ, CacheDir: filepath.Join(root, "tokens")},
			data.Spec{Path: w.text, Model: w.model, MaskPrompt: true})
		if err != nil {
			t.Fatal(err)
		}
		made = w
	})
	if made.set == nil {
		t.Fatal("the tiny model could not be made")
	}
	return made
}

// text makes rows of 30 to 90 tokens, so that some are cut at 64.
func text(rows int) string {
	var b strings.Builder
	for i := range rows {
		fmt.Fprintf(&b, "{\"prompt\":\"say %d\",\"completion\":\"%s\"}\n", i, strings.Repeat(string(rune('a'+i%26)), 1+i*37%60))
	}
	return b.String()
}

func TestMain(m *testing.M) {
	var err error
	if root, err = os.MkdirTemp("", "mlxdyno-mlxlm"); err != nil {
		panic(err)
	}
	code := m.Run()
	os.RemoveAll(root)
	os.Exit(code)
}

// job returns a training of 16 steps, more than two passes over the data.
func job(t testing.TB) trainer.Job {
	w := theWorld(t)
	c := trainer.DefaultConfig()
	c.Model.Path, c.Data.Path = w.model, w.text
	c.Data.MaskPrompt, c.Data.MaxSeqLength, c.Data.GroupByLength = true, 64, true
	c.Quality.Rank, c.Quality.Dropout, c.Quality.LearningRate, c.Quality.Optimizer = 4, 0.1, 1e-3, "adamw"
	c.Plan.Batch, c.Plan.Accumulation = 4, 2
	c.Schedule = trainer.Schedule{Steps: 16, EvalEvery: 4, ValBatches: -1, SaveEvery: 5}
	c.Seed = 5
	return trainer.Job{Config: c, Tokens: w.set.Tokens(), UntilStep: c.Schedule.Steps, Mode: trainer.Normal}
}

// run runs a job; each hears every event.
func run(t testing.TB, ctx context.Context, j trainer.Job, each func(trainer.Event)) (trainer.Result, trainer.Summary) {
	t.Helper()
	p, err := mlxlm.New(environment(t)).Process(j)
	if err != nil {
		t.Fatal(err)
	}
	return runProcess(t, ctx, p, j, each)
}

func runProcess(t testing.TB, ctx context.Context, p trainer.Process, j trainer.Job, each func(trainer.Event)) (trainer.Result, trainer.Summary) {
	t.Helper()
	var events []trainer.Event
	r, err := worker.Run(ctx, p, j, worker.Options{}, func(e trainer.Event) error {
		events = append(events, e)
		if each != nil {
			each(e)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return r, trainer.Summarize(events)
}

// finish runs a job that must do what it is asked to.
func finish(t testing.TB, j trainer.Job) (trainer.Result, trainer.Summary) {
	t.Helper()
	r, s := run(t, t.Context(), j, nil)
	if r.Outcome != trainer.Finished {
		t.Fatalf("%s: %+v\n%s", r.Outcome, r.Failure, r.LogTail)
	}
	return r, s
}

func losses(s trainer.Summary) []float64 {
	var out []float64
	for _, r := range s.Steps {
		out = append(out, float64(r.Loss))
	}
	return out
}
