package check

import (
	"fmt"
	"strings"
	"testing"

	"github.com/mlxdyno/mlxdyno/probe/leak"
	"github.com/mlxdyno/mlxdyno/probe/model"
	"github.com/mlxdyno/mlxdyno/trainer"
)

func TestLeakIsNamed(t *testing.T) {
	blocks := func(n int) *model.Facts {
		f := &model.Facts{Arch: "llama", Layers: n, Hidden: 64, Vocab: 500, Parameters: 1_000_000}
		for i := range n {
			for name, dims := range map[string][]int{"self_attn.q_proj": {64, 64}, "self_attn.k_proj": {32, 64}, "mlp.up_proj": {100, 64}, "mlp.down_proj": {64, 100}} {
				f.Tensors = append(f.Tensors, model.Tensor{Name: fmt.Sprintf("model.layers.%d.%s.weight", i, name), DType: "F32", Shape: dims})
			}
		}
		return f
	}
	for name, tt := range map[string]struct {
		facts  *model.Facts
		change func(*trainer.Config)
		bytes  float64
		says   []string
		others int // suspects beside the first
	}{
		"one tensor": {blocks(1), nil, 4 * 32 * 8, []string{"one float32 gradient of model.layers.0.self_attn.k_proj.lora_b"}, 0},
		"one kind":   {blocks(3), nil, 4 * 32 * 8, []string{"one float32 gradient of self_attn.k_proj.lora_b in one of 3 blocks"}, 0},
		"last block": {blocks(3), func(c *trainer.Config) { c.Quality.Layers = 1 }, 4 * 32 * 8, []string{"model.layers.2.self_attn.k_proj.lora_b"}, 0},
		"two kinds":  {blocks(3), nil, 4 * 100 * 8, []string{"one float32 gradient of mlp.down_proj.lora_a or mlp.up_proj.lora_b in one of 3 blocks"}, 0},
		"chosen module": {blocks(3), func(c *trainer.Config) { c.Quality.Modules = "mlp.down_proj" }, 4 * 100 * 8,
			[]string{"one float32 gradient of mlp.down_proj.lora_a in one of 3 blocks"}, 0},
		"many kinds":   {blocks(3), nil, 4 * 64 * 8, []string{"one float32 gradient of mlp.down_proj.lora_b, mlp.up_proj.lora_a, self_attn.k_proj.lora_a, self_attn.q_proj.lora_a or self_attn.q_proj.lora_b in one of 3 blocks"}, 0},
		"another rank": {blocks(1), func(c *trainer.Config) { c.Quality.Rank = 3 }, 4 * 32 * 3, []string{"model.layers.0.self_attn.k_proj.lora_b"}, 0},
		"not exact":    {blocks(1), nil, 4*32*8 + 8, []string{"model.layers.0.self_attn.k_proj.lora_b"}, 0},
		"an update": {blocks(1), func(c *trainer.Config) { c.Plan.Accumulation = 4 }, 32 * 8,
			[]string{"model.layers.0.self_attn.k_proj.lora_b", "kept once an update of 4 steps"}, 0},
		"the head or an adapter": {blocks(1), func(c *trainer.Config) { c.Quality.Rank = 500 }, 4 * 64 * 500,
			[]string{"one float32 gradient of the output head, or of one float32 gradient of model.layers.0.mlp.down_proj.lora_b, "}, 1},
		"a copy of the optimizer's state": {blocks(1), nil, 8 * adapters, []string{"the optimizer's state"}, 0},
		"the head":                        {blocks(1), nil, 4 * 64 * 500, []string{"one float32 gradient of the output head"}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in := healthyLinux()
			in.Snapshot.Model.Facts = tt.facts
			if tt.change != nil {
				tt.change(&in.Settings.Config)
			}
			in.Leak = &leak.Verdict{State: leak.Leaking, BytesAStep: tt.bytes, IsExact: true, Steps: 17, Reason: "grew"}
			f := burstLeak.run(in)
			_, what, _ := strings.Cut(f.Why, "that is the size of ")
			for _, part := range tt.says {
				if !strings.Contains(what, part) {
					t.Errorf("%q lacks %q", what, part)
				}
			}
			if n := strings.Count(what, ", or of "); n != tt.others {
				t.Errorf("%q names %d others, not %d", what, n, tt.others)
			}
		})
	}
	// Competing attributions are listed each with its fit.
	for bytes, want := range map[float64]string{4 * 64 * 500: "equal to the byte", 4*64*500 + 640: "128 kB, +0.50 %"} {
		in := healthyLinux()
		in.Snapshot.Model.Facts = blocks(1)
		in.Settings.Config.Quality.Rank = 500
		in.Leak = &leak.Verdict{State: leak.Leaking, BytesAStep: bytes, Steps: 17, Reason: "grew"}
		fits := 0
		for _, e := range burstLeak.run(in).Evidence {
			if e.Name == "size agrees with" {
				fits++
				if e.Expected != want {
					t.Errorf("%s fits %q, want %q", e.Observed, e.Expected, want)
				}
			}
		}
		if fits != 2 {
			t.Errorf("%g bytes have %d attributions", bytes, fits)
		}
	}
	in := healthyLinux()
	in.Leak = &leak.Verdict{State: leak.Leaking, BytesAStep: 12345, Steps: 17, Reason: "grew"}
	if f := burstLeak.run(in); strings.Contains(f.Why, "that is the size of") {
		t.Errorf("names something that has another size: %s", f.Why)
	}
}
