package install

import (
	"context"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// gpu is what an NVIDIA driver says of the first GPU.
type gpu struct {
	driver     int     // major version
	capability float64 // 0 if not known
}

// Drivers from these on run what the wheels were built with.
const (
	driverCUDA12  = 525
	driverCUDA13  = 580
	oldestCapable = 7.5 // MLX's wheels hold no code for earlier GPUs
)

// kind returns the wheel for g, or "" and why there is none.
func (g gpu) kind() (kind, why string) {
	switch {
	case g.capability > 0 && g.capability < oldestCapable:
		return "", "its NVIDIA GPU has compute capability " + strconv.FormatFloat(g.capability, 'f', 1, 64) + ", and MLX needs 7.5"
	case g.driver >= driverCUDA13:
		return "cuda13", ""
	case g.driver >= driverCUDA12:
		return "cuda12", ""
	}
	return "", "its NVIDIA driver " + strconv.Itoa(g.driver) + " is too old: MLX needs 525 or later"
}

// findGPU asks nvidia-smi, and reads the kernel's word where there is none.
func findGPU(ctx context.Context) (gpu, bool) {
	if path, err := exec.LookPath("nvidia-smi"); err == nil {
		ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
		defer cancel()
		var answer strings.Builder
		err := runCommand(ctx, command{
			argv: []string{path, "--query-gpu=driver_version,compute_cap", "--format=csv,noheader"}, env: os.Environ(), stdout: &answer,
		})
		if err == nil {
			return parseSMI(answer.String())
		}
	}
	// The version file is there in containers that cannot reach the GPU, too.
	if _, err := os.Stat("/dev/nvidiactl"); err != nil {
		return gpu{}, false
	}
	text, err := os.ReadFile("/proc/driver/nvidia/version")
	if err != nil {
		return gpu{}, false
	}
	return parseDriverVersion(string(text))
}

// parseSMI reads lines such as "580.65.06, 9.0".
func parseSMI(text string) (gpu, bool) {
	line, _, _ := strings.Cut(strings.TrimSpace(text), "\n")
	driver, capability, _ := strings.Cut(line, ",")
	major, _, _ := strings.Cut(strings.TrimSpace(driver), ".")
	n, err := strconv.Atoi(major)
	if err != nil || n <= 0 {
		return gpu{}, false
	}
	g := gpu{driver: n}
	if c, err := strconv.ParseFloat(strings.TrimSpace(capability), 64); err == nil && c > 0 && c < 100 {
		g.capability = c
	}
	return g, true
}

var driverVersion = regexp.MustCompile(`Kernel Module[^\n]*?\s(\d{3,4})\.\d+`)

// parseDriverVersion reads /proc/driver/nvidia/version.
func parseDriverVersion(text string) (gpu, bool) {
	m := driverVersion.FindStringSubmatch(text)
	if m == nil {
		return gpu{}, false
	}
	n, err := strconv.Atoi(m[1])
	return gpu{driver: n}, err == nil
}
