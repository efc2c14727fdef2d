package budget

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/mlxdyno/mlxdyno/probe"
	"github.com/mlxdyno/mlxdyno/probe/model"
	"github.com/mlxdyno/mlxdyno/trainer"
)

// llama makes the facts of a llama without a file.
func llama(hidden, inner, layers, heads, kvHeads, vocab int, dtype string) model.Facts {
	f := model.Facts{Arch: "llama", Layers: layers, Hidden: hidden, Intermediate: inner, Heads: heads, KVHeads: kvHeads,
		HeadDim: hidden / heads, Vocab: vocab, DType: dtype}
	add := func(name string, out, in int) {
		b := int64(out) * int64(in) * dtypeBytes(dtype)
		f.Tensors = append(f.Tensors, model.Tensor{Name: name + ".weight", DType: dtype, Shape: []int{out, in}, Bytes: b})
		f.Parameters += int64(out) * int64(in)
		f.WeightBytes += b
	}
	add("model.embed_tokens", vocab, hidden)
	add("lm_head", vocab, hidden)
	kv := kvHeads * f.HeadDim
	for i := range layers {
		p := fmt.Sprintf("model.layers.%d.", i)
		add(p+"self_attn.q_proj", hidden, hidden)
		add(p+"self_attn.k_proj", kv, hidden)
		add(p+"self_attn.v_proj", kv, hidden)
		add(p+"self_attn.o_proj", hidden, hidden)
		add(p+"mlp.gate_proj", inner, hidden)
		add(p+"mlp.up_proj", inner, hidden)
		add(p+"mlp.down_proj", hidden, inner)
	}
	return f
}

func llama8B() model.Facts { return llama(4096, 14336, 32, 32, 8, 128256, "BF16") }

func config(change func(*trainer.Config)) trainer.Config {
	c := trainer.DefaultConfig()
	if change != nil {
		change(&c)
	}
	return c
}

// What one eager step of mlx-lm 0.32.2 on MLX 0.32.4 for a CPU took on top of
// weights, adapters and optimizer state.
func TestEstimateAgainstMeasuredSteps(t *testing.T) {
	cases := []struct {
		layers, vocab, batch, width, rank int
		dtype                             string
		checkpointing                     bool
		megabytes                         float64
	}{
		{8, 512, 2, 129, 8, "F32", false, 61.3},
		{8, 512, 4, 129, 8, "F32", false, 121.8},
		{8, 512, 2, 257, 8, "F32", false, 139.2},
		{16, 512, 2, 129, 8, "F32", false, 111.9},
		{8, 8192, 2, 129, 8, "F32", false, 92.3},
		{8, 512, 2, 129, 64, "F32", false, 64.5},
		{8, 512, 2, 129, 8, "F32", true, 18.8},
		{16, 512, 2, 129, 8, "F32", true, 20.1},
		{16, 512, 2, 257, 8, "F32", true, 44.1},
		{8, 8192, 2, 129, 8, "F32", true, 40.5},
		{8, 512, 2, 129, 8, "BF16", false, 47.8},
	}
	for _, c := range cases {
		t.Run(fmt.Sprintf("%+v", c), func(t *testing.T) {
			b := Estimate(llama(256, 704, c.layers, 8, 4, c.vocab, c.dtype), config(func(k *trainer.Config) {
				k.Engine, k.Quality.Rank = trainer.EngineMLXLM, c.rank
				k.Plan.Checkpointing = c.checkpointing
			}), trainer.Shape{Batch: c.batch, Width: c.width})
			resident := b.Line(Weights).Estimated.Or(0) + b.Line(Adapters).Estimated.Or(0) + b.Line(Optimizer).Estimated.Or(0)
			got := float64(b.Peak.Estimated.Or(0)-resident) / 1e6
			if off := got/c.megabytes - 1; math.Abs(off) > 0.15 {
				t.Errorf("estimated %.1f MB, measured %.1f (%+.0f %%)", got, c.megabytes, 100*off)
			}
		})
	}
}

func TestEstimateLines(t *testing.T) {
	shape := trainer.Shape{Batch: 1, Width: 513}
	line := func(name string, change func(*trainer.Config)) int64 {
		return Estimate(llama8B(), config(change), shape).Line(name).Estimated.Or(-1)
	}
	rank64 := func(c *trainer.Config) { c.Quality.Rank = 64 }
	cases := []struct {
		name      string
		got, want int64
	}{
		{"weights as stored", line(Weights, nil), 2 * (8030261248 - 266240)}, // the norms are not in these facts
		{"4 bits are 4.5 a weight", line(Weights, func(c *trainer.Config) { c.Model.Quantize = 4 }), (8030261248 - 266240) * 9 / 16},
		{"adapters on all linear modules", line(Adapters, rank64), 4 * 167772160},
		{"adapters on the last 8 blocks", line(Adapters, func(c *trainer.Config) { c.Quality.Rank, c.Quality.Layers = 64, 8 }), 167772160},
		{"adam keeps two moments", line(Optimizer, rank64), 8 * 167772160},
		{"sgd keeps one", line(Optimizer, func(c *trainer.Config) { c.Quality.Rank, c.Quality.Optimizer = 64, "sgd" }), 4 * 167772160},
		{"gradients", line(Gradients, rank64), 4 * 167772160},
		{"gradients accumulate", line(Gradients, func(c *trainer.Config) { c.Quality.Rank, c.Plan.Accumulation = 64, 4 }), 8 * 167772160},
		{"logits", line(Logits, func(c *trainer.Config) { c.Engine = trainer.EngineMLXLM }), 4 * 512 * 128256 * 2},
		{"cache unknown by default", line(Cache, nil), -1},
		{"cache limit", line(Cache, func(c *trainer.Config) { c.Plan.CacheLimit = trainer.LimitOf(2e9) }), 2e9},
		{"others unknown", line(Others, nil), -1},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if c.got != c.want {
				t.Errorf("%d bytes, want %d", c.got, c.want)
			}
		})
	}
}

func TestCheckpointingAndFewerBlocksSave(t *testing.T) {
	shape := trainer.Shape{Batch: 4, Width: 1025}
	peak := func(change func(*trainer.Config)) int64 {
		b := Estimate(llama8B(), config(change), shape)
		return b.Peak.Estimated.Or(0) - b.Line(Weights).Estimated.Or(0)
	}
	for _, engine := range []string{trainer.EngineNative, trainer.EngineMLXLM} {
		all := peak(func(c *trainer.Config) { c.Engine = engine })
		if p := peak(func(c *trainer.Config) { c.Engine, c.Plan.Checkpointing = engine, true }); p >= all/3 {
			t.Errorf("%s, checkpointing: %d of %d bytes", engine, p, all)
		}
		if p := peak(func(c *trainer.Config) { c.Engine, c.Quality.Layers = engine, 8 }); p >= all/2 {
			t.Errorf("%s, adapters on 8 of 32 blocks: %d of %d bytes", engine, p, all)
		}
	}
}

func TestStoredQuantizationStays(t *testing.T) {
	f := llama8B()
	f.Quant = &model.Quant{Bits: 4, GroupSize: 64}
	b := Estimate(f, config(func(c *trainer.Config) { c.Model.Quantize = 8 }), trainer.Shape{Batch: 1, Width: 33})
	if got := b.Line(Weights).Estimated.Or(0); got != f.WeightBytes {
		t.Errorf("%d bytes, want the stored %d", got, f.WeightBytes)
	}
}

func TestLimits(t *testing.T) {
	bytes := func(n int64, source string) probe.Value[int64] { return probe.Known(n, source) }
	mac := probe.Snapshot{Memory: probe.Memory{TotalBytes: bytes(96<<30, "sysctl hw.memsize")},
		GPU: probe.GPU{Kind: "metal", WorkingSetBytes: bytes(72<<30, "MLX")}}
	boxed := probe.Snapshot{Memory: probe.Memory{TotalBytes: bytes(64<<30, "/proc/meminfo")}, GPU: probe.GPU{Kind: "none"},
		Cgroup: &probe.Cgroup{LimitBytes: bytes(4<<30, "memory.max")}}
	card := probe.Snapshot{Memory: probe.Memory{TotalBytes: bytes(64<<30, "/proc/meminfo")},
		GPU: probe.GPU{Kind: "cuda", MemoryBytes: bytes(80<<30, "nvidia-smi")}}
	cases := []struct {
		name     string
		snapshot probe.Snapshot
		limit    trainer.Limit
		want     string
		bytes    int64
	}{
		{"working set below ram", mac, trainer.Limit{}, LimitWorkingSet, 72 << 30},
		{"configured below all", mac, trainer.LimitOf(48e9), LimitConfigured, 48e9},
		{"configured above all", mac, trainer.LimitOf(400e9), LimitWorkingSet, 72 << 30},
		{"cgroup", boxed, trainer.Limit{}, LimitCgroup, 4 << 30},
		{"gpu", card, trainer.Limit{}, LimitGPU, 80 << 30},
		{"nothing known", probe.Snapshot{}, trainer.Limit{}, "", 0},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			k := config(func(k *trainer.Config) { k.Plan.MemoryLimit = c.limit })
			got := Budget{}.WithLimits(c.snapshot, k).Limit
			if got.Name != c.want || got.Bytes.Or(0) != c.bytes || got.Bytes.Known() != (c.want != "") {
				t.Errorf("%+v, want %s of %d bytes", got, c.want, c.bytes)
			}
		})
	}
}

func TestWithMeasured(t *testing.T) {
	known := trainer.Some[int64]
	step := func(active, cache, footprint int64) trainer.StepRecord {
		return trainer.StepRecord{Step: trainer.Step{Memory: trainer.Memory{Active: known(active), Cache: known(cache), Footprint: known(footprint)}}}
	}
	before := Estimate(llama8B(), config(nil), trainer.Shape{Batch: 1, Width: 513})
	s := trainer.Summary{
		Ready:   &trainer.Ready{WeightBytes: 16e9, TrainableBytes: 84e6},
		Steps:   []trainer.StepRecord{step(17e9, 2e9, 19.5e9), step(17e9, 1e9, 18.8e9)},
		Figures: trainer.Figures{PeakBytes: known(30e9)},
	}
	b := before.WithMeasured(s)
	for name, want := range map[string]int64{Weights: 16e9, Adapters: 84e6, Cache: 1e9, Others: 8e8} {
		if got := b.Line(name).Measured.Or(-1); got != want {
			t.Errorf("%s: measured %d, want %d", name, got, want)
		}
	}
	if b.Line(Activations).Measured.Known() || before.Line(Weights).Measured.Known() {
		t.Error("activations were made up, or the original changed")
	}
	if b.Peak.Best().Or(0) != 30e9 || !strings.Contains(b.Gap, "30.0 GB") {
		t.Errorf("peak %v, gap %q", b.Peak.Best(), b.Gap)
	}
	apart := before.WithMeasured(trainer.Summary{Steps: []trainer.StepRecord{step(17e9, 2e9, 3e9)}})
	if apart.Line(Others).Measured.Known() {
		t.Error("a footprint without the GPU's memory gave a figure for others")
	}
}

func TestAvailable(t *testing.T) {
	bytes := func(n int64) probe.Value[int64] { return probe.Known(n, "test") }
	group := func(limit, used probe.Value[int64]) *probe.Cgroup {
		return &probe.Cgroup{LimitBytes: limit, UsageBytes: used}
	}
	unknown := probe.Unknown[int64]("no limit", "memory.max")
	cases := []struct {
		name  string
		free  probe.Value[int64]
		group *probe.Cgroup
		want  probe.Value[int64]
	}{
		{"no group", bytes(50), nil, bytes(50)},
		{"no limit", bytes(50), group(unknown, bytes(10)), bytes(50)},
		{"tight group", bytes(50), group(bytes(40), bytes(30)), probe.Known[int64](10, "test less test")},
		{"overdrawn group", bytes(50), group(bytes(40), bytes(45)), probe.Known[int64](0, "test less test")},
		{"roomy group", bytes(50), group(bytes(90), bytes(30)), bytes(50)},
		{"nothing known", unknown, nil, unknown},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if got := Available(probe.Snapshot{Memory: probe.Memory{AvailableBytes: c.free}, Cgroup: c.group}); got != c.want {
				t.Errorf("%+v, want %+v", got, c.want)
			}
		})
	}
}
