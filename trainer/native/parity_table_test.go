package native

import (
	"flag"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/mlxdyno/mlxdyno/trainer"
)

var fullParity = flag.Bool("parity.full", false, "compare every family in every form and print a table (make parity)")

// TestParityTable compares 20 steps in bfloat16, which TestParityWithMLXLM does
// not; with -parity.full every family in every form.
func TestParityTable(t *testing.T) {
	forms := []struct {
		name, dtype string
		bits        int
	}{{"float32", "float32", 0}, {"bfloat16", "bfloat16", 0}, {"4 bits", "float32", 4}, {"4 bits of bfloat16", "bfloat16", 4}}
	names := slices.Sorted(maps.Keys(shapes))
	if !*fullParity {
		forms, names = forms[1:2], []string{"gemma3", "llama", "qwen3"}
	}
	var table strings.Builder
	fmt.Fprintf(&table, "largest difference of 20 losses, and of validation losses\n%-10s", "")
	for _, f := range forms {
		fmt.Fprintf(&table, "%20s", f.name)
	}
	for _, name := range names {
		fmt.Fprintf(&table, "\n%-10s", name)
		for _, f := range forms {
			shape := shapes[name]
			shape.DType = f.dtype
			steps, evals := inParity(t, shape, func(c *trainer.Config) { c.Model.Quantize, c.Model.GroupSize = f.bits, 32 })
			fmt.Fprintf(&table, "%20s", fmt.Sprintf("%.3g, %.3g", steps, evals))
			if steps != 0 || evals != 0 {
				t.Errorf("%s in %s: losses differ by %.3g, validation losses by %.3g", name, f.name, steps, evals)
			}
		}
	}
	t.Log(table.String())
}
