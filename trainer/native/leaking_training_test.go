package native

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/mlxdyno/mlxdyno/mlxbind"
	"github.com/mlxdyno/mlxdyno/probe/model"
	"github.com/mlxdyno/mlxdyno/trainer"
	"github.com/mlxdyno/mlxdyno/trainer/data"
	supervised "github.com/mlxdyno/mlxdyno/trainer/run"
	"github.com/mlxdyno/mlxdyno/trainer/worker"
	"github.com/mlxdyno/mlxdyno/tuner"
)

const (
	growingWorker = "grows" // value of workerVariable
	growVariable  = "MLXDYNO_TEST_GROW"
)

// keepBytes keeps so many bytes of every step until the worker ends.
func keepBytes(s *mlxbind.Scope, _ *learner) {
	n, err := strconv.Atoi(os.Getenv(growVariable))
	if err != nil {
		panic(err)
	}
	if err := s.Eval(s.Full(1, mlxbind.Float32, n/4)); err != nil {
		panic(err)
	}
}

// heard are the events of a training.
type heard struct{ events []trainer.Event }

func (h *heard) Event(e trainer.Event) { h.events = append(h.events, e) }
func (*heard) Note(supervised.Note)    {}

// TestLeakingTrainingStaysUnderItsCap plants a leak that the planned training
// has no room for, tunes under a cap, and trains with what was found: MLX's peak
// with its cache stays under the cap in every step, and so does the process.
func TestLeakingTrainingStaysUnderItsCap(t *testing.T) {
	const leaked, room, steps = 1 << 20, 48 << 20, 150
	engine := ours(t, workerVariable+"="+growingWorker, fmt.Sprintf("%s=%d", growVariable, leaked))
	j := job(t, plain, 8)
	_, first := finish(t, engine, j)
	limit := most(first) + room
	facts, err := model.Read(j.Config.Model.Path)
	if err != nil {
		t.Fatal(err)
	}
	base := trainer.NewSettings()
	base.Config = j.Config
	for knob, value := range map[string]string{"iters": strconv.Itoa(steps), "batch-size": "3", "grad-accumulation-steps": "1", "rank": "4",
		"quantize": "0", "max-seq-length": "64", "grad-checkpoint": "false"} {
		if err := base.Set(knob, value, trainer.FromFlag); err != nil {
			t.Fatal(err)
		}
	}
	rows, err := data.OpenRows(j.Tokens.Train)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	r, err := tuner.Study{Bursts: worker.Bench{Engine: engine}, Base: base, Facts: *facts, Lengths: rows.Lengths(), Prompts: rows.Prompts(), Tokens: j.Tokens,
		Device: "cpu", Limit: tuner.Limit{Bytes: 1 << 40, Source: "test"}, Wishes: tuner.Wishes{MaxMemory: limit, Budget: 3 * time.Minute}}.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	interval := r.Config.Schedule.ReloadInterval
	if r.Verdict == tuner.Impossible || interval < 8 || interval >= steps {
		t.Fatalf("%s %s: a new process every %d steps, of %d bytes each", r.Verdict, r.Problem, interval, leaked)
	}
	settings := base
	settings.Config = r.Config
	settings.Config.Schedule.Steps = steps
	var all heard
	report, err := supervised.Train(t.Context(), supervised.Plan{Engine: engine, Config: settings, Tokens: j.Tokens, Dir: filepath.Join(t.TempDir(), "run")}, &all)
	if err != nil || report.StepsDone != steps {
		t.Fatalf("%d steps, %v: %+v", report.StepsDone, err, report.Failure)
	}
	if got := most(trainer.Summarize(all.events)); got > limit {
		t.Errorf("%d bytes were taken under a cap of %d, with a new process every %d steps", got, limit, interval)
	}
	if want := int(math.Ceil(float64(steps)/float64(interval))) - 1; report.Reloads != want {
		t.Errorf("%d reloads, want %d", report.Reloads, want)
	}
}

// most is the most that MLX or the process took.
func most(s trainer.Summary) int64 {
	var n int64
	for _, r := range s.Steps {
		n = max(n, r.Memory.Peak.Or(0)+r.Memory.Cache.Or(0), r.Memory.Footprint.Or(0))
	}
	return n
}
