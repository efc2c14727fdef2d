package native

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/mlxdyno/mlxdyno/mlxbind/install"
	"github.com/mlxdyno/mlxdyno/trainer"
	"github.com/mlxdyno/mlxdyno/trainer/data"
	"github.com/mlxdyno/mlxdyno/trainer/demo"
	"github.com/mlxdyno/mlxdyno/trainer/mlxlm"
	"github.com/mlxdyno/mlxdyno/trainer/worker"
)

const workerVariable = "MLXDYNO_TEST_WORKER"

// root is where models and texts of this run of the tests lie.
var root string

func TestMain(m *testing.M) {
	switch os.Getenv(workerVariable) {
	case "":
	case leakingWorker:
		os.Exit((&process{afterStep: keepGradient}).work(os.Stdin, os.NewFile(eventsFD, "events")))
	case growingWorker:
		os.Exit((&process{afterStep: keepBytes}).work(os.Stdin, os.NewFile(eventsFD, "events")))
	default:
		os.Exit(Work())
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	var err error
	if root, err = os.MkdirTemp("", "mlxdyno-native"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(root)
	return m.Run()
}

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

// environ has one BLAS thread: their number decides the last bits.
func environ(e install.Env) []string {
	return append(e.Environ(), "OPENBLAS_NUM_THREADS=1", "OMP_NUM_THREADS=1")
}

// ours and mlxLM are the two engines, with the same BLAS and threads.
func ours(t testing.TB, more ...string) trainer.Engine {
	e := installed(t)
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	// Without the last a test binary built with -race takes a second to exit.
	env := append(environ(e), workerVariable+"=1", "GORACE=atexit_sleep_ms=0")
	return New(Options{Argv: []string{exe}, Environ: append(env, more...), Shim: e.Shim, BLAS: e.BLASLibrary, Version: "test"})
}

func mlxLM(t testing.TB) trainer.Engine {
	e := installed(t)
	return mlxlm.New(mlxlm.Options{Python: e.Python, Environ: environ(e)})
}

// making guards what tests that run side by side share: models, and their token
// files.
var (
	making    sync.Mutex
	models    = map[demo.Shape]string{}
	tokenized = map[string]trainer.TokenFiles{} // by model
)

// modelOf makes a model with random weights, or finds it made before.
func modelOf(t testing.TB, s demo.Shape) string {
	t.Helper()
	making.Lock()
	defer making.Unlock()
	if dir, ok := models[s]; ok {
		return dir
	}
	e := installed(t)
	dir, err := demo.MakeModel(t.Context(), demo.Options{Dir: filepath.Join(root, "models"), Python: e.Python, Environ: e.Environ()}, s)
	if err != nil {
		t.Fatal(err)
	}
	models[s] = dir
	return dir
}

// tokens tokenizes the test's text for a model.
func tokens(t testing.TB, dir string) (text string, files trainer.TokenFiles) {
	t.Helper()
	text = filepath.Join(root, "text")
	making.Lock()
	defer making.Unlock()
	if found, ok := tokenized[dir]; ok {
		return text, found
	}
	if err := os.MkdirAll(text, 0o755); err != nil {
		t.Fatal(err)
	}
	for split, rows := range map[string]int{"train": 26, "valid": 5} {
		if err := os.WriteFile(filepath.Join(text, split+".jsonl"), []byte(rowsOfText(rows)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	e := installed(t)
	set, err := data.Prepare(t.Context(), data.Options{Python: e.Python, Environ: e.Environ(), CacheDir: filepath.Join(root, "tokens")},
		data.Spec{Path: text, Model: dir, MaskPrompt: true})
	if err != nil {
		t.Fatal(err)
	}
	tokenized[dir] = set.Tokens()
	return text, set.Tokens()
}

// rowsOfText makes rows of many lengths, some of which are cut at 64 tokens.
func rowsOfText(rows int) string {
	var b strings.Builder
	for i := range rows {
		fmt.Fprintf(&b, "{\"prompt\":\"say %d\",\"completion\":\"%s\"}\n", i, strings.Repeat(string(rune('a'+i%26))+"q", 1+i*37%40))
	}
	return b.String()
}

// job returns a training of a model with plain settings.
func job(t testing.TB, s demo.Shape, steps int) trainer.Job {
	t.Helper()
	dir := modelOf(t, s)
	text, files := tokens(t, dir)
	c := trainer.DefaultConfig()
	c.Engine = Name
	c.Model.Path, c.Data.Path = dir, text
	c.Data.MaskPrompt, c.Data.MaxSeqLength = true, 64
	c.Quality.Rank, c.Quality.LearningRate = 4, 1e-3
	c.Plan.Batch = 3
	c.Schedule = trainer.Schedule{Steps: steps, EvalEvery: 5, ValBatches: -1, SaveEvery: 1000}
	c.Seed = 5
	return trainer.Job{Config: c, Tokens: files, UntilStep: steps, Mode: trainer.Normal}
}

// runJob runs a job on an engine; each may be nil.
func runJob(t testing.TB, ctx context.Context, e trainer.Engine, j trainer.Job, each func(trainer.Event)) (trainer.Result, []trainer.Event) {
	t.Helper()
	p, err := e.Process(j)
	if err != nil {
		t.Fatal(err)
	}
	var all []trainer.Event
	r, err := worker.Run(ctx, p, j, worker.Options{}, func(e trainer.Event) error {
		all = append(all, e)
		if each != nil {
			each(e)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return r, all
}

// finish runs a job that must do what it is asked to.
func finish(t testing.TB, e trainer.Engine, j trainer.Job) (trainer.Result, trainer.Summary) {
	t.Helper()
	r, all := runJob(t, t.Context(), e, j, nil)
	if r.Outcome != trainer.Finished {
		t.Fatalf("%s: %s: %+v\n%s", e.Name(), r.Outcome, r.Failure, r.LogTail)
	}
	return r, trainer.Summarize(all)
}

func losses(s trainer.Summary) []float64 {
	var out []float64
	for _, r := range s.Steps {
		out = append(out, float64(r.Loss))
	}
	return out
}
