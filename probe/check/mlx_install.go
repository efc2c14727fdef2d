package check

import (
	"cmp"

	"github.com/mlxdyno/mlxdyno/probe"
)

var mlxInstall = Check{
	Code: "mlx.install", Required: true,
	Story: Story{
		Title: "MLX environment",
		Means: "Training needs a Python environment with MLX and mlx-lm. It is missing, made by another version, or no longer whole.",
		How:   "The stamp that setup writes is read and its files are looked for; nothing is started.",
		Do:    "Run mlxdyno setup. It makes or repairs the environment and tests it.",
	},
	run: func(in Input) probe.Finding {
		i := in.Snapshot.Install
		switch i.State {
		case "ready":
			return pass("MLX "+cmp.Or(i.Versions["mlx"], "of unknown version")+" is ready on "+cmp.Or(i.Backend, "an unknown backend"),
				said("mlx", cmp.Or(i.Versions["mlx"], "unknown"), "", "setup's stamp"),
				said("mlx-lm", cmp.Or(i.Versions["mlx-lm"], "unknown"), "", "setup's stamp"))
		case "missing", "stale", "broken":
			f := finding(probe.Fail, "The MLX environment is "+i.State, cmp.Or(i.Problem, "training needs MLX and mlx-lm"), said("state", i.State, "ready", "setup's stamp"))
			f.Fix = []probe.Fix{{Text: "Make or repair it", Command: cmp.Or(i.Fix, "mlxdyno setup")}}
			return f
		}
		return unclear("Whether MLX is installed is unknown", "the environment was not looked for")
	},
}
