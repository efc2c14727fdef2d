package check

import (
	"strings"

	"github.com/mlxdyno/mlxdyno/probe"
)

var mlxParts = Check{
	Code: "mlx.parts", Required: true, DependsOn: []string{"mlx.install"},
	Story: Story{
		Title: "Front end and library of MLX",
		Means: "MLX comes as two packages that share a directory: mlx, the Python front end, and its library, mlx-metal, mlx-cpu or mlx-cuda. They must be of one version: the front end calls what it was built with.",
		How:   "The versions of the installed packages are compared. mlx-lm below 0.32 is questioned too, where it trains: the engine that drives its train() knows later ones, and setup takes no older.",
		Do:    "Run mlxdyno setup, or install both packages of one version in your own environment.",
	},
	run: func(in Input) probe.Finding {
		i := in.Snapshot.Install
		front := i.Versions["mlx"]
		if i.State != "ready" || front == "" {
			return probe.Finding{}
		}
		fix := []probe.Fix{{Text: "Install versions that go together", Command: "mlxdyno setup"}}
		evidence := []probe.Evidence{said("mlx", front, "", "setup's stamp")}
		for _, name := range []string{"mlx-metal", "mlx-cpu", "mlx-cuda-12", "mlx-cuda-13"} {
			back, ok := i.Versions[name]
			if !ok {
				continue
			}
			evidence = append(evidence, said(name, back, front, "setup's stamp"))
			if numbers(back) != numbers(front) {
				f := finding(probe.Fail, "mlx "+front+" and "+name+" "+back+" do not go together", "the front end calls a library that another version was built with", evidence...)
				f.Fix = fix
				return f
			}
		}
		lm := i.Versions["mlx-lm"]
		if have, ok := parseVersion(lm); ok && have.less(version{0, 32, 0}) && in.config().Engine == "mlx-lm" {
			f := finding(probe.Warn, "mlx-lm "+lm+" is older than what the mlx-lm engine was made for", "its train() is not the one that was tested", append(evidence, said("mlx-lm", lm, "≥ 0.32.0", "setup's stamp"))...)
			f.Fix = fix
			return f
		}
		return pass("The parts of MLX go together", evidence...)
	},
}

// numbers drops what follows the three numbers of a version, such as +cu12.
func numbers(v string) string {
	v, _, _ = strings.Cut(v, "+")
	return v
}
