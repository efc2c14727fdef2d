package native

import (
	"fmt"
	"math"
	"testing"

	"github.com/mlxdyno/mlxdyno/trainer"
	"github.com/mlxdyno/mlxdyno/trainer/demo"
)

// difference is the largest between two series of losses.
func difference(t *testing.T, a, b []float64) float64 {
	t.Helper()
	if len(a) != len(b) || len(a) == 0 {
		t.Fatalf("%d losses and %d", len(a), len(b))
	}
	worst := 0.0
	for i := range a {
		if math.IsNaN(a[i]) || math.IsNaN(b[i]) {
			t.Fatalf("losses %v and %v", a[i], b[i])
		}
		worst = max(worst, math.Abs(a[i]-b[i]))
	}
	return worst
}

var shapes = map[string]demo.Shape{
	"llama":   {Arch: "llama", Hidden: 96, Intermediate: 160, Layers: 3, Heads: 6, KVHeads: 2, HeadDim: 16},
	"mistral": {Arch: "mistral", Hidden: 96, Intermediate: 160, Layers: 3, Heads: 6, KVHeads: 3, HeadDim: 16},
	"qwen2":   {Arch: "qwen2", Hidden: 96, Intermediate: 160, Layers: 3, Heads: 6, KVHeads: 2, Tied: true},
	"qwen3":   {Arch: "qwen3", Hidden: 96, Intermediate: 160, Layers: 3, Heads: 6, KVHeads: 2, HeadDim: 32, Tied: true},
	"gemma2":  {Arch: "gemma2", Hidden: 96, Intermediate: 160, Layers: 3, Heads: 6, KVHeads: 2, HeadDim: 32},
	"gemma3":  {Arch: "gemma3_text", Hidden: 96, Intermediate: 160, Layers: 3, Heads: 6, KVHeads: 2, HeadDim: 32},
	"phi3":    {Arch: "phi3", Hidden: 96, Intermediate: 160, Layers: 3, Heads: 6, KVHeads: 2},
}

// inParity trains with both engines and returns the largest difference of their
// losses, and of their validation losses.
func inParity(t *testing.T, s demo.Shape, change func(*trainer.Config)) (steps, evals float64) {
	t.Helper()
	j := job(t, s, 20)
	j.Evaluate = true
	j.Config.Parity = true
	if change != nil {
		change(&j.Config)
	}
	_, own := finish(t, ours(t), j)
	j.Config.Engine = mlxLM(t).Name()
	_, theirs := finish(t, mlxLM(t), j)
	var a, b []float64
	for i := range own.Evals {
		a, b = append(a, float64(own.Evals[i].Loss)), append(b, float64(theirs.Evals[i].Loss))
	}
	for i := range own.Steps {
		x, y := own.Steps[i], theirs.Steps[i]
		if x.Shape != y.Shape || x.Tokens != y.Tokens || x.Supervised != y.Supervised {
			t.Fatalf("step %d: %+v, and mlx-lm %+v", i+1, x.Step, y.Step)
		}
	}
	return difference(t, losses(own), losses(theirs)), difference(t, a, b)
}

func TestParityWithMLXLM(t *testing.T) {
	for name, shape := range shapes {
		for _, bits := range []int{0, 4} {
			t.Run(fmt.Sprintf("%s/%d", name, bits), func(t *testing.T) {
				t.Parallel()
				quantize := func(c *trainer.Config) { c.Model.Quantize, c.Model.GroupSize = bits, 32 }
				if steps, evals := inParity(t, shape, quantize); steps != 0 || evals != 0 {
					t.Errorf("losses differ by %.3g, validation losses by %.3g", steps, evals)
				}
			})
		}
	}
}

func TestParityOfSettings(t *testing.T) {
	for name, change := range map[string]func(*trainer.Config){
		"adamw, dropout, accumulation": func(c *trainer.Config) {
			c.Quality.Optimizer, c.Quality.Dropout, c.Plan.Accumulation = "adamw", 0.1, 2
		},
		"sgd, last block, file order": func(c *trainer.Config) {
			c.Quality.Optimizer, c.Quality.Layers, c.Data.GroupByLength = "sgd", 1, false
		},
		"checkpointing":  func(c *trainer.Config) { c.Plan.Checkpointing = true },
		"chosen modules": func(c *trainer.Config) { c.Quality.Modules = "mlp.down_proj,self_attn.q_proj" },
		"cosine with warm-up": func(c *trainer.Config) {
			c.Quality.LRSchedule, c.Quality.Warmup, c.Quality.LREnd = trainer.CosineRate, 4, 1e-5
		},
		"linear":           func(c *trainer.Config) { c.Quality.LRSchedule = trainer.LinearRate },
		"8 bits at load":   func(c *trainer.Config) { c.Model.Quantize, c.Model.GroupSize = 8, 32 },
		"cut at 33 tokens": func(c *trainer.Config) { c.Data.MaxSeqLength = 33 },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if steps, evals := inParity(t, shapes["llama"], change); steps != 0 || evals != 0 {
				t.Errorf("losses differ by %.3g, validation losses by %.3g", steps, evals)
			}
		})
	}
}
