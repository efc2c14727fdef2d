package check

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/mlxdyno/mlxdyno/probe"
	"github.com/mlxdyno/mlxdyno/probe/leak"
	"github.com/mlxdyno/mlxdyno/probe/model"
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
		if fits, once := in.attribute(v.BytesAStep); len(fits) > 0 {
			var all []string
			for _, t := range fits {
				f.Evidence = append(f.Evidence, said("size agrees with", t.what+once.says, t.fit(bytes, once.steps), "model files"))
				all = append(all, t.what)
			}
			f.Why += "; that is the size of " + strings.Join(all, ", or of ") + once.says
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

// tensor is something whose float32 copy may have been kept.
type tensor struct {
	bytes int64
	what  string
}

// fit says how well a tensor that is kept once in so many steps explains a leak.
func (t tensor) fit(leaked int64, steps int) string {
	kept := float64(t.bytes) / float64(max(steps, 1))
	if float64(leaked) == math.Round(kept) {
		return "equal to the byte"
	}
	return fmt.Sprintf("%s, %+.2f %%", trainer.FormatBytes(int64(kept)), 100*(float64(leaked)/kept-1))
}

// interval is how often something is kept.
type interval struct {
	steps int
	says  string
}

// attribute names everything that has the size of the leak: to the byte if
// anything has, else to 1 %. What is kept once an update shows as a fraction of
// it in every step.
func (in Input) attribute(bytes float64) ([]tensor, interval) {
	all := in.suspects()
	update := in.config().Plan.Accumulation
	for _, tolerance := range []float64{0, 0.01} {
		for _, once := range []interval{{1, ""}, {update, fmt.Sprintf(", kept once an update of %d steps", update)}} {
			var found []tensor
			for _, t := range all {
				n := float64(t.bytes) / float64(max(once.steps, 1))
				if n > 0 && math.Abs(bytes/n-1) <= tolerance {
					found = append(found, t)
				}
			}
			if len(found) > 0 {
				return found, once
			}
		}
	}
	return nil, interval{}
}

// suspects lists what is known of the model and the burst, the likeliest first.
func (in Input) suspects() []tensor {
	var out []tensor
	if in.Burst != nil && in.Burst.Summary.Ready != nil {
		trained := 4 * in.Burst.Summary.Ready.Trainable
		out = append(out, tensor{trained, "all adapter gradients"})
		if o := in.config().Quality.Optimizer; o == "adam" || o == "adamw" {
			out = append(out, tensor{2 * trained, "the optimizer's state"}, tensor{3 * trained, "all adapter gradients and the optimizer's state"})
		}
	}
	m := in.Snapshot.Model
	if m == nil || m.Facts == nil {
		return out
	}
	f := m.Facts
	out = append(out, tensor{4 * f.HeadParameters(), "one float32 gradient of the output head"},
		tensor{4 * f.Parameters, "one float32 gradient of every parameter"})
	if in.Burst != nil && len(in.Burst.Summary.Steps) > 0 {
		out = append(out, tensor{4 * in.Burst.Summary.Steps[0].Shape.Positions() * int64(f.Vocab), "one float32 array of logits"})
	}
	return append(out, in.adapterGradients(f)...)
}

// adapterGradients are those of A and B of every adapted module. Those of one
// size are named together, and once for all blocks that have them.
func (in Input) adapterGradients(f *model.Facts) []tensor {
	q := in.config().Quality
	type side struct {
		bytes int64
		name  string // inside a block
	}
	names := map[side][]string{}
	var sides []side
	for _, m := range f.LinearModules(q.Layers) {
		within := m.Name
		if _, rest, ok := strings.Cut(m.Name, fmt.Sprintf(".%d.", m.Block)); ok {
			within = rest
		}
		if wanted := q.ModuleNames(); len(wanted) > 0 && !slices.Contains(wanted, within) {
			continue
		}
		for name, width := range map[string]int{".lora_a": m.In, ".lora_b": m.Out} {
			k := side{4 * int64(m.Experts) * int64(width) * int64(q.Rank), within + name}
			if names[k] == nil {
				sides = append(sides, k)
			}
			names[k] = append(names[k], m.Name+name)
		}
	}
	slices.SortFunc(sides, func(a, b side) int { return cmp.Or(cmp.Compare(a.bytes, b.bytes), cmp.Compare(a.name, b.name)) })
	type group struct {
		bytes  int64
		blocks int
	}
	groups := map[group][]string{}
	var order []group
	for _, k := range sides {
		g := group{k.bytes, len(names[k])}
		if groups[g] == nil {
			order = append(order, g)
		}
		name := k.name
		if g.blocks == 1 {
			name = names[k][0]
		}
		groups[g] = append(groups[g], name)
	}
	var out []tensor
	for _, g := range order {
		what := "one float32 gradient of " + either(groups[g])
		if g.blocks > 1 {
			what += fmt.Sprintf(" in one of %d blocks", g.blocks)
		}
		out = append(out, tensor{g.bytes, what})
	}
	return out
}

// either lists names as "a, b or c".
func either(names []string) string {
	last := len(names) - 1
	if last == 0 {
		return names[0]
	}
	return strings.Join(names[:last], ", ") + " or " + names[last]
}
