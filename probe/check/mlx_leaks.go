package check

import (
	"strings"

	"github.com/mlxdyno/mlxdyno/probe"
)

// leaksFixed are leaks of MLX by the version that no longer has them.
var leaksFixed = []struct {
	in     version
	issues string
}{
	{version{0, 16, 1}, "#1271"}, {version{0, 19, 3}, "#1548"}, {version{0, 21, 0}, "#1590"},
	{version{0, 31, 0}, "#3159"}, {version{0, 31, 2}, "#2841, #3290"},
}

var mlxLeaks = Check{
	Code: "mlx.known-leaks", DependsOn: []string{"mlx.install", "mlx.version-minimum"},
	Story: Story{
		Title: "Leaks of older MLX",
		Means: "The installed MLX has leaks that later versions do not: memory is lost with every step or every compiled function, and only the end of the process frees it.",
		How:   "The installed version is compared with those in which leaks were fixed: 0.16.1, 0.19.3, 0.21.0, 0.31.0 and 0.31.2.",
		Do:    "Run mlxdyno setup, which installs a version that was tested, or update MLX in your own environment.",
	},
	run: func(in Input) probe.Finding {
		installed := in.Snapshot.Install.Versions["mlx"]
		have, ok := parseVersion(installed)
		if in.Snapshot.Install.State != "ready" || !ok {
			return probe.Finding{}
		}
		var issues []string
		last := leaksFixed[len(leaksFixed)-1].in
		for _, l := range leaksFixed {
			if have.less(l.in) {
				issues = append(issues, l.issues)
			}
		}
		if len(issues) == 0 {
			return pass("No leak is known of MLX "+installed, said("mlx", installed, "", "setup's stamp"))
		}
		f := finding(probe.Warn, "MLX "+installed+" is known to leak", "fixed since: mlx "+strings.Join(issues, ", "), said("mlx", installed, "≥ "+last.String(), "setup's stamp"))
		f.Fix = []probe.Fix{{Text: "Install the tested version", Command: "mlxdyno setup"}}
		return f
	},
}
