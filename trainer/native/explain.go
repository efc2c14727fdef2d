package native

import (
	"fmt"
	"runtime"

	"github.com/mlxdyno/mlxdyno/trainer"
	"github.com/mlxdyno/mlxdyno/trainer/native/tape"
)

// About is what of a training decides about its plan.
type About struct {
	Device    string // kind: cpu, metal or cuda
	Quantized bool   // base, as stored or at load
	Half      bool   // it computes in bfloat16 or float16
	Blocks    int    // of the model

	// Shares of the positions that go through in one pass over the data: padding
	// as planned and as mlx-lm ships, and targets that count in the loss.
	Padding, PaddingShipped, Supervised trainer.Opt[float64]
	Shapes                              trainer.Opt[int] // that batches have
}

const notMeasured = "not measured on this kind of machine: tune and bench tell"

// gives picks the figure that was measured on a kind of device.
func (a About) gives(cpu, cuda string) string {
	switch {
	case a.Device == "cpu" && cpu != "":
		return cpu + " (2-core Linux)"
	case a.Device == "cuda" && cuda != "":
		return cuda + " (H200, 8B shape)"
	}
	return notMeasured
}

// Differences explains how a training will be computed. With --parity there are
// none. The figures are those of docs/benchmarks.md.
func Differences(c trainer.Config, a About) []trainer.Difference {
	if c.Parity {
		return nil
	}
	var out []trainer.Difference
	add := func(knob, here, theirs, gives string) {
		out = append(out, trainer.Difference{Knob: knob, Here: here, MLXLM: theirs, Gives: gives})
	}
	compiled := c.Compiles(a.Device)
	o := learnerOptions{compile: compiled, checkpoint: c.Plan.Checkpointing, supervised: supervisedOnly(c, compiled)}
	o.scheme(c, a.Device, a.Quantized)
	f := forms(c.Plan, a.Device, false)

	if o.blocks {
		add("step-by", "block by block, where each keeps what its backward pass reads", "as a whole",
			a.gives("peak 0.92× in float32, 0.94× at 4 bits", "peak 21 instead of 40 GB at 4 bits, 30 instead of 36 GB in bfloat16, at the same speed"))
		keeps := "products and attention; the rest is computed again"
		switch o.keep {
		case tape.Results:
			keeps = "all results that the backward pass reads"
		case tape.Costly:
			keeps = "products, attention and powers; the rest is computed again"
		}
		add("keep", keeps, "whatever automatic differentiation reads", a.gives("", "products: peak 25 instead of 34 GB at 4 bits for 2 % of the speed"))
	}
	if a.Quantized {
		if f.DenseFrom > 0 {
			add("matmul", "dense matrices, made when they are needed", "packed products", a.gives("13× at 4 bits", "4.3× at 4 bits and 4 × 512 tokens"))
		} else {
			add("matmul", "packed products", "the same", "nothing; dense ones are faster on CPUs and on CUDA, and have not been measured here")
		}
	}
	if a.Half && f.LowRankInHalf {
		add("low-rank", "in the activations' dtype, from float32 masters", "in float32", a.gives("", "a third of the speed in bfloat16"))
	}
	if o.supervised {
		add("loss-positions", "scores of supervised positions only", "of all positions", share(a.Supervised, "%s of the positions are supervised"))
	}
	if o.blocks && o.chunk > 0 {
		add("loss-rows", fmt.Sprintf("%d positions scored at once", o.chunk), "all at once", "memory for that many rows of the vocabulary")
	}
	if d := a.batches(c); d != nil {
		out = append(out, *d)
	}
	if o.checkpoint && o.blocks && o.checkpointNth > 1 {
		add("grad-checkpoint-nth", fmt.Sprintf("every %d. block is computed again", o.checkpointNth), "every block", "part of the memory for part of the time")
	}
	if bytes, ok := cacheLimit(c, trainer.Device{Kind: a.Device}).Get(); ok {
		here := "keeps up to a thirty-second of the device's memory for reuse"
		if c.Plan.CacheLimit.IsSet {
			here = "keeps up to " + trainer.FormatBytes(bytes) + " for reuse"
		}
		add("cache-limit", here, "cleared after every step", a.gives("", "1.2× at 4 bits, 1.3× in bfloat16"))
	}
	if frozen := a.Blocks - c.Quality.Layers; o.blocks && c.Quality.Layers > 0 && frozen > 0 {
		add("num-layers", fmt.Sprintf("%d frozen blocks keep nothing and have no backward pass", frozen), "the same, by its scheduler", "the same")
	}
	if f.PowersOfTwo && runtime.GOARCH == "amd64" {
		add("", "e^x as a power of two in activations and the loss", "the C library's, element by element", "2.6× on those operations")
	}
	add("", "batches are built while a step is computed", "between steps", "the wait for data, which every report shows")
	add("", "the first pad behind a row does not count in the loss, and accumulated gradients are divided by all their tokens",
		"it counts; the means of steps are averaged", "a loss that is the model's (--parity reproduces mlx-lm's)")
	return out
}

// batches says how rows are laid out.
func (a About) batches(c trainer.Config) *trainer.Difference {
	padding, known := a.Padding.Get()
	shipped, too := a.PaddingShipped.Get()
	if !known || !too {
		return nil
	}
	d := trainer.Difference{Knob: "packing", Here: "rows end to end, each attended to on its own", MLXLM: "file order, each batch as wide as its longest row",
		Gives: fmt.Sprintf("%.1f %% padding instead of %.1f: %.2f× in useful tokens", 100*padding, 100*shipped, (1-padding)/(1-shipped))}
	if padding > 0 {
		d.Knob, d.Here = "max-shapes", "rows of like length share a batch"
		if n, ok := a.Shapes.Get(); ok {
			d.Here += fmt.Sprintf(", in %d shapes", n)
		}
		if !c.Data.GroupByLength {
			d.Knob, d.Here = "group-by-length", "file order"
		}
	}
	return &d
}

func share(v trainer.Opt[float64], format string) string {
	if s, ok := v.Get(); ok {
		return fmt.Sprintf(format, fmt.Sprintf("%.0f %%", 100*s))
	}
	return "as many scores less as there are prompts and pads"
}
