package patient

import "strings"

// Chip is what a processor can do at best.
type Chip struct {
	FLOPS     float64 // a second, in float16 and float32 alike, of the largest GPU of its name
	Bandwidth float64 // bytes a second
}

// chips are Apple's, from its published figures: GPU cores of the largest
// variant × 256 FLOP a cycle × clock, and memory bandwidth. The name alone does
// not tell the variant, and an upper bound must not be too low.
var chips = map[string]Chip{
	"M1": {2.6e12, 68e9}, "M1 Pro": {5.3e12, 200e9}, "M1 Max": {10.6e12, 400e9}, "M1 Ultra": {21.2e12, 800e9},
	"M2": {3.6e12, 100e9}, "M2 Pro": {6.8e12, 200e9}, "M2 Max": {13.6e12, 400e9}, "M2 Ultra": {27.2e12, 800e9},
	"M3": {4.1e12, 100e9}, "M3 Pro": {7.4e12, 150e9}, "M3 Max": {16.4e12, 400e9}, "M3 Ultra": {32.8e12, 819e9},
	"M4": {4.6e12, 120e9}, "M4 Pro": {9.3e12, 273e9}, "M4 Max": {18.5e12, 546e9},
}

// ChipNamed finds a chip by the name that the system gives it.
func ChipNamed(name string) (Chip, bool) {
	c, ok := chips[strings.TrimSpace(strings.TrimPrefix(name, "Apple "))]
	return c, ok
}

// StepSeconds is the least time of a step: of LoRA over a model of so many
// parameters and bytes of weights, on so many tokens. Forward and backward pass
// read all weights once each, and multiply each token by each weight: 2 + 2 FLOP
// a parameter and token.
func (c Chip) StepSeconds(parameters, weightBytes int64, tokens float64) (reading, computing float64) {
	return 2 * float64(weightBytes) / c.Bandwidth, 4 * float64(parameters) * tokens / c.FLOPS
}
