package native

import (
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mlxdyno/mlxdyno/mlxbind"
	"github.com/mlxdyno/mlxdyno/probe"
	"github.com/mlxdyno/mlxdyno/probe/diagnose"
	"github.com/mlxdyno/mlxdyno/trainer"
	"github.com/mlxdyno/mlxdyno/trainer/worker"
)

const (
	leakingWorker = "leaks" // value of workerVariable
	leakVariable  = "MLXDYNO_TEST_LEAK"
)

// keepGradient keeps an array like the gradient of one adapter, in its scope
// until the worker ends.
func keepGradient(s *mlxbind.Scope, l *learner) {
	i := slices.Index(l.model.AdapterNames(), os.Getenv(leakVariable))
	if i < 0 {
		panic("no adapter " + os.Getenv(leakVariable))
	}
	if err := s.Eval(s.MulN(l.adapters[i], 0.5)); err != nil {
		panic(err)
	}
}

// A worker that keeps one gradient each step is found out by the diagnosis that
// doctor makes, to the byte and by name.
func TestInjectedLeak(t *testing.T) {
	for name, tt := range map[string]struct {
		leak   string
		change func(*trainer.Config)
		bytes  float64
		says   []string
	}{
		"one tensor": {"model.layers.2.self_attn.k_proj.lora_b",
			func(c *trainer.Config) { c.Quality.Modules, c.Quality.Layers = "self_attn.k_proj", 1 },
			8192, []string{"that is the size of one float32 gradient of model.layers.2.self_attn.k_proj.lora_b"}},
		"one of several": {"model.layers.1.self_attn.q_proj.lora_a", func(*trainer.Config) {},
			16384, []string{"that is the size of one float32 gradient of mlp.down_proj.lora_b, ", ", self_attn.q_proj.lora_a, ", " in one of 3 blocks"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			j := job(t, plain, 1)
			settings := trainer.NewSettings()
			settings.Config = j.Config
			settings.Config.Quality.Rank = 64
			tt.change(&settings.Config)
			snapshot := probe.Collect(t.Context(), probe.Request{Home: t.TempDir(), Install: probe.Install{State: "ready", Backend: "cpu"},
				ModelPath: j.Config.Model.Path, Data: &probe.DataState{Path: j.Config.Data.Path, Rows: map[string]int{"train": 26}}})
			r, err := diagnose.Run(t.Context(), diagnose.Request{Snapshot: snapshot, Settings: settings, Tokens: j.Tokens,
				Bursts: worker.Bench{Engine: ours(t, workerVariable+"="+leakingWorker, leakVariable+"="+tt.leak)}, BurstBudget: 2 * time.Second})
			if err != nil {
				t.Fatal(err)
			}
			i := slices.IndexFunc(r.Findings, func(f probe.Finding) bool { return f.Code == "burst.leak" })
			if i < 0 {
				t.Fatalf("not found; %s %+v", r.Skipped, r.Leak)
			}
			f := r.Findings[i]
			if r.Leak.BytesAStep != tt.bytes || !r.Leak.IsExact || !strings.HasPrefix(f.Title, "Every step leaks "+trainer.FormatBytes(int64(tt.bytes))) {
				t.Errorf("%s: %+v", f.Title, r.Leak)
			}
			for _, part := range tt.says {
				if !strings.Contains(f.Why, part) {
					t.Errorf("%q lacks %q", f.Why, part)
				}
			}
		})
	}
}
