package native

import (
	"strings"
	"testing"

	"github.com/mlxdyno/mlxdyno/trainer"
)

func TestDifferences(t *testing.T) {
	about := About{Device: "cuda", Quantized: true, Half: true, Blocks: 32, Padding: trainer.Some(0.1), PaddingShipped: trainer.Some(0.55), Shapes: trainer.Some(8)}
	has := func(list []trainer.Difference, knob string) *trainer.Difference {
		for i, d := range list {
			if d.Knob == knob {
				return &list[i]
			}
		}
		return nil
	}
	c := trainer.DefaultConfig()
	all := Differences(c, about)
	for _, d := range all {
		if _, known := trainer.FindKnob(d.Knob); d.Knob != "" && !known {
			t.Errorf("%s is no knob", d.Knob)
		}
		if d.Here == "" || d.MLXLM == "" || d.Gives == "" {
			t.Errorf("says too little: %+v", d)
		}
	}
	for _, knob := range []string{"step-by", "keep", "matmul", "low-rank", "cache-limit", "max-shapes"} {
		if has(all, knob) == nil {
			t.Errorf("%s is not explained", knob)
		}
	}
	if d := has(all, "max-shapes"); d != nil && !strings.Contains(d.Gives, "2.00×") {
		t.Errorf("0.9 / 0.45 is two: %s", d.Gives)
	}
	whole := c
	whole.Plan.StepBy, whole.Plan.Matmul = trainer.StepByWhole, trainer.MatmulQuantized
	if d := Differences(whole, about); has(d, "step-by") != nil || !strings.HasPrefix(has(d, "matmul").Here, "packed") {
		t.Errorf("what was turned off: %+v", d)
	}
	metal := about
	metal.Device = "metal"
	if d := has(Differences(c, metal), "step-by"); d == nil || d.Gives != notMeasured {
		t.Errorf("nothing was measured on Metal: %+v", d)
	}
	c.Parity = true
	if d := Differences(c, about); d != nil {
		t.Errorf("parity differs: %+v", d)
	}
}
