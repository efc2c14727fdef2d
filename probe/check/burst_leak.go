package check

import (
	"fmt"
	"math"
	"strconv"

	"github.com/mlxdyno/mlxdyno/probe"
	"github.com/mlxdyno/mlxdyno/probe/leak"
	"github.com/mlxdyno/mlxdyno/trainer"
)

var burstLeak = Check{
	Code: "burst.leak", DependsOn: []string{"burst.outcome"},
	Story: Story{
		Title: "Leak of MLX memory",
		Means: "Every step keeps memory that it should return. The training dies when the headroom is used up.",
		How:   "MLX's count of active bytes is read at the same phase of steps of one exact shape. Differences are compared to the byte; warm-up is left out.",
		Do:    "Update MLX. Until then restart the worker process in time with --reload-interval; only the end of a process frees leaked memory for certain.",
	},
	run: func(in Input) probe.Finding {
		v := in.Leak
		if v == nil {
			return probe.Finding{}
		}
		judged := count("readings judged", v.Steps, "", fmt.Sprintf("≥ %d", leak.MinDifferences+1), "trial steps of one shape")
		switch v.State {
		case leak.None:
			return pass("MLX memory does not grow", judged, said("active memory", v.Reason, "", "MLX's counter"))
		case leak.Inconclusive:
			f := unclear("Whether MLX memory grows is unknown", v.Reason)
			f.Evidence = []probe.Evidence{judged}
			return f
		}
		bytes := int64(math.Round(v.BytesAStep))
		f := finding(probe.Warn, "Every step leaks "+trainer.FormatBytes(bytes), v.Reason,
			size("growth of active memory a step", bytes, "0 B", "MLX's counter"), judged)
		if what := in.attribute(v.BytesAStep); what != "" {
			f.Evidence = append(f.Evidence, said("size agrees with", what, "", "model files"))
			f.Why += "; that is the size of " + what
		}
		if in.Budget == nil {
			return f
		}
		limit, ok1 := in.Budget.Limit.Bytes.Get()
		peak, ok2 := in.Budget.Peak.Best().Get()
		if n, ok := leak.StepsToExhaustion(v.BytesAStep, limit-peak); ok && ok1 && ok2 {
			f.Evidence = append(f.Evidence, count("steps until the limit", n, "steps", fmt.Sprintf("≥ %d steps", in.config().Schedule.Steps), in.Budget.Limit.From))
			if n > 1 && n < in.config().Schedule.Steps {
				f.Fix = []probe.Fix{{Text: "Restart the worker process before the limit is reached",
					Command: Command("doctor", in.Settings, Change{"reload-interval", strconv.Itoa(max(1, n*8/10))})}}
			}
		}
		return f
	},
}

// attribute names what has the size of the leak, to 1 %.
func (in Input) attribute(bytes float64) string {
	near := func(n int64) bool { return n > 0 && math.Abs(bytes/float64(n)-1) <= 0.01 }
	if in.Burst != nil && in.Burst.Summary.Ready != nil && near(4*in.Burst.Summary.Ready.Trainable) {
		return "all adapter gradients"
	}
	m := in.Snapshot.Model
	if m == nil || m.Facts == nil {
		return ""
	}
	f := m.Facts
	switch {
	case near(4 * f.HeadParameters()):
		return "one float32 gradient of the output head"
	case near(4 * f.Parameters):
		return "one float32 gradient of every parameter"
	case in.Burst != nil && len(in.Burst.Summary.Steps) > 0 && near(4*in.Burst.Summary.Steps[0].Shape.Positions()*int64(f.Vocab)):
		return "one float32 array of logits"
	}
	return ""
}
