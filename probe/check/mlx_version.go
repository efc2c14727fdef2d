package check

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/mlxdyno/mlxdyno/probe"
)

var mlxVersion = Check{
	Code: "mlx.version-minimum", Required: true, DependsOn: []string{"mlx.install"},
	Story: Story{
		Title: "MLX version",
		Means: "On Metal, MLX before 0.32.1 can turn an out-of-memory error into zeros, and before 0.32 a GPU error aborts the process; on macOS 27 it wires all memory anew, which is 40 times slower (mlx #3979, #3224, #4211). On a CPU, errors of its threads reach the caller at every synchronisation only from 0.32.2 on.",
		How:   "The installed version is compared with 0.32.1 on Metal (required) and 0.32.2 on a CPU (advised).",
		Do:    "Run mlxdyno setup, which installs a version that was tested.",
	},
	run: func(in Input) probe.Finding {
		installed := in.Snapshot.Install.Versions["mlx"]
		if in.Snapshot.Install.State != "ready" {
			return unclear("The version of MLX is unknown", "there is no environment")
		}
		have, ok := parseVersion(installed)
		if !ok {
			return unclear("The version of MLX is unknown", "the environment does not say it: "+strconv.Quote(installed))
		}
		update := []probe.Fix{{Text: "Install the tested version", Command: "mlxdyno setup"}}
		switch in.backend() {
		case "metal":
			if have.less(version{0, 32, 1}) {
				f := finding(probe.Fail, "MLX "+installed+" is too old for Metal",
					"version 0.32.0 could lose an out-of-memory error and train on zeros; older ones abort on any GPU error",
					said("mlx", installed, "≥ 0.32.1", "setup's stamp"))
				f.Fix = update
				return f
			}
		case "cpu":
			if have.less(version{0, 32, 2}) {
				f := finding(probe.Warn, "MLX "+installed+" may lose errors on a CPU",
					"up to 0.32.1 an error in a worker thread does not come out of a synchronisation",
					said("mlx", installed, "≥ 0.32.2", "setup's stamp"))
				f.Fix = update
				return f
			}
		}
		return pass("MLX "+installed+" is recent enough", said("mlx", installed, "", "setup's stamp"))
	},
}

type version [3]int

func (v version) String() string { return fmt.Sprintf("%d.%d.%d", v[0], v[1], v[2]) }

func (v version) less(w version) bool {
	for i := range v {
		if v[i] != w[i] {
			return v[i] < w[i]
		}
	}
	return false
}

// parseVersion reads the numbers of "0.32.4" or "0.32.2.dev20260101".
func parseVersion(s string) (version, bool) {
	var v version
	parts := strings.SplitN(s, ".", 4)
	if len(parts) < 3 {
		return v, false
	}
	for i := range v {
		digits := strings.TrimRightFunc(parts[i], func(r rune) bool { return r < '0' || r > '9' })
		n, err := strconv.Atoi(digits)
		if err != nil || n < 0 {
			return version{}, false
		}
		v[i] = n
	}
	return v, true
}
