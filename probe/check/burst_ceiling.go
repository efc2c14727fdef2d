package check

import (
	"fmt"
	"slices"
	"strings"

	"github.com/mlxdyno/mlxdyno/probe"
)

var burstCeiling = Check{
	Code: "burst.above-ceiling", DependsOn: []string{"burst.outcome"},
	Story: Story{
		Title: "Speed against what the chip can do",
		Means: "The tokens per second that were reported would need more arithmetic than the chip can do. The clock, the count of tokens or their unit is wrong: steps a second taken for seconds a step, say. No figure made from it is to be trusted.",
		How:   "The least arithmetic of the step, 2 operations a parameter forward and 2 backward where there are adapters, heads and attention left out, times real tokens a second, is compared with a generous bound of the chip.",
		Do:    "Look for the error before you tune anything by that figure, and report it when the figure is mlxdyno's.",
	},
	run: func(in Input) probe.Finding {
		m := in.Snapshot.Model
		if in.Burst == nil || m == nil || m.Facts == nil {
			return probe.Finding{}
		}
		rate, ok := in.Burst.Summary.Figures.TokensPerSecond.Get()
		ceiling, what := in.ceiling()
		a, b := m.Facts.LinearModules(-1), m.Facts.LinearModules(in.config().Quality.Layers)
		if !ok || ceiling == 0 || len(a) == 0 {
			return probe.Finding{}
		}
		var operations float64                       // a token
		for _, module := range slices.Concat(a, b) { // forward in all blocks, backward in those with adapters
			if module.Experts > 1 {
				return probe.Finding{} // a token goes through some of them, and how many is not known here
			}
			operations += 2 * float64(module.In) * float64(module.Out)
		}
		tera := operations * rate / 1e12
		evidence := []probe.Evidence{
			number("least arithmetic", tera, "TFLOP/s", fmt.Sprintf("≤ %.4g TFLOP/s", ceiling), "parameters × tokens/s"),
			number("speed", rate, "tokens/s", "", "trial steps"),
			said("bound", what, "", "table of chips"),
		}
		if tera <= ceiling {
			return pass(fmt.Sprintf("The speed is possible: at least %s of the chip's bound", percent(tera/ceiling)), evidence...)
		}
		return finding(probe.Warn, fmt.Sprintf("%.4g tokens/s are more than this chip can compute", rate), "a clock, a count or a unit is wrong; steps a second were taken for seconds a step before", evidence...)
	},
}

// bounds are generous: twice a GPU's float32 rate on Apple's chips, whose half
// precision is hardly faster, and dense half precision elsewhere. The first that
// a name contains counts.
var bounds = []struct {
	chip   string
	teraop float64
}{
	{"M1 Ultra", 42}, {"M1 Max", 21}, {"M1 Pro", 10.5}, {"Apple M1", 5.3},
	{"M2 Ultra", 55}, {"M2 Max", 27.5}, {"M2 Pro", 13.7}, {"Apple M2", 7.3},
	{"M3 Ultra", 66}, {"M3 Max", 33}, {"M3 Pro", 15}, {"Apple M3", 8.3},
	{"M4 Max", 37}, {"M4 Pro", 18.5}, {"Apple M4", 9.3},
	{"H200", 990}, {"H100", 990}, {"A100", 312}, {"L40S", 362}, {"RTX 4090", 330}, {"RTX 3090", 142}, {"A10G", 125}, {"T4", 65}, {"V100", 125},
}

// coreBound is more than any core computes in float32: two units of 16 numbers,
// multiplied and added, at 6 GHz.
const coreBound = 0.384

// ceiling is a bound in TFLOP/s, or 0 for a chip that is not known.
func (in Input) ceiling() (teraop float64, what string) {
	s := in.Snapshot
	if in.backend() == "cpu" {
		cores, ok := s.Host.Cores.Get()
		if !ok {
			return 0, ""
		}
		return coreBound * float64(cores), fmt.Sprintf("%d cores", cores)
	}
	name := s.GPU.Name.Or("")
	if in.backend() == "metal" && name == "" {
		name = s.Host.Chip.Or("")
	}
	for _, b := range bounds {
		if strings.Contains(name, b.chip) {
			return b.teraop, name
		}
	}
	return 0, ""
}
