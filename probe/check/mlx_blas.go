package check

import (
	"strings"

	"github.com/mlxdyno/mlxdyno/probe"
)

var mlxBLAS = Check{
	Code: "mlx.blas", DependsOn: []string{"mlx.install"},
	Story: Story{
		Title: "Matrix library on a CPU",
		Means: "MLX's wheel for Linux CPUs brings the reference BLAS, about ten times slower in float32 matrix products than OpenBLAS.",
		How:   "The library that serves float32 products was found when the environment was made.",
		Do:    "Run mlxdyno setup: it installs OpenBLAS in the environment and loads it before MLX.",
	},
	run: func(in Input) probe.Finding {
		i := in.Snapshot.Install
		if in.Snapshot.Host.OS != "linux" || i.Backend != "cpu" {
			return probe.Finding{}
		}
		name := strings.ToLower(i.BLAS)
		for _, fast := range []string{"openblas", "mkl", "blis", "armpl", "nvpl", "aocl"} {
			if strings.Contains(name, fast) {
				return pass("Matrix products run on "+i.BLAS, said("blas", i.BLAS, "", "setup's self-test"))
			}
		}
		for _, slow := range []string{"reference", "bundled", "netlib", "wheel"} {
			if strings.Contains(name, slow) {
				f := finding(probe.Warn, "MLX computes with the reference BLAS",
					"its float32 matrix products take about ten times as long as OpenBLAS's",
					said("blas", i.BLAS, "openblas", "setup's self-test"))
				f.Fix = []probe.Fix{{Text: "Add OpenBLAS to the environment", Command: "mlxdyno setup"}}
				return f
			}
		}
		if i.BLAS == "" {
			return unclear("Which BLAS MLX uses is unknown", "the environment does not say it")
		}
		return unclear("How fast MLX's BLAS is, is unknown", "the library "+i.BLAS+" has not been measured")
	},
}
