package native

import (
	"fmt"
	"testing"

	"github.com/mlxdyno/mlxdyno/trainer"
)

func TestOtherwise(t *testing.T) {
	tests := []struct {
		name   string
		about  About
		change func(*trainer.Config)
		want   string
	}{
		{"float32 on a CPU", About{Device: "cpu"}, func(*trainer.Config) {}, "[step-by=whole keep=results keep=products loss-positions=all]"},
		{"4 bits on a CPU", About{Device: "cpu", Quantized: true}, func(*trainer.Config) {}, "[step-by=whole keep=results matmul=quantized loss-positions=all]"},
		{"4 bits of bfloat16 on a GPU", About{Device: "metal", Quantized: true, Half: true}, func(*trainer.Config) {},
			"[step-by=whole keep=results matmul=dequantized low-rank=activation loss-positions=supervised compile=off]"},
		{"as a whole", About{Device: "cpu"}, func(c *trainer.Config) { c.Plan.StepBy = trainer.StepByWhole }, "[step-by=blocks loss-positions=all]"},
		{"checkpointing", About{Device: "cpu"}, func(c *trainer.Config) { c.Plan.Checkpointing, c.Plan.Keep = true, trainer.KeepResults },
			"[step-by=whole keep=products loss-positions=all grad-checkpoint-nth=2]"},
		{"parity", About{Device: "cpu"}, func(c *trainer.Config) { c.Parity = true }, "[]"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := trainer.DefaultConfig()
			c.Model.Path, c.Data.Path = "model", "data"
			tt.change(&c)
			turns := Otherwise(c, tt.about)
			if got := fmt.Sprint(turns); got != tt.want {
				t.Errorf("%s, want %s", got, tt.want)
			}
			for _, turn := range turns { // each is a configuration, and no longer among those to try
				turned := c
				k, ok := trainer.FindKnob(turn.Knob)
				if !ok {
					t.Fatalf("no knob is called %q", turn.Knob)
				}
				if err := k.Set(&turned, turn.Value); err != nil {
					t.Errorf("%v: %v", turn, err)
				}
				if err := turned.Validate(); err != nil {
					t.Errorf("%v: %v", turn, err)
				}
				for _, again := range Otherwise(turned, tt.about) {
					if again == turn {
						t.Errorf("%v is to be tried where it is set", turn)
					}
				}
			}
		})
	}
}
