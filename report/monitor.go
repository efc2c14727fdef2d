package report

import (
	"path"

	"github.com/mlxdyno/mlxdyno/probe"
)

// watch is a command with which a person watches a training.
type watch struct{ what, command string }

// watches are those of a machine: what its system brings along, and nothing
// that has to be installed.
func watches(s probe.Snapshot) []watch {
	var out []watch
	switch s.Host.OS {
	case "darwin":
		out = []watch{
			{"pressure (1 normal, 2 warn, 4 critical) and swap", "sysctl kern.memorystatus_vm_pressure_level vm.swapusage"},
			{"pages, every 5 s", "vm_stat 5"},
			{"what holds memory, GPU memory included", "top -o mem -n 10 -stats pid,mem,cpu,command"},
			{"one process's footprint, by kind", "footprint PID"},
			{"how busy the GPU is", `ioreg -r -d1 -c AGXAccelerator | grep -o '"Device Utilization %"=[0-9]*'`},
			{"live GPU buffers of all programs", "ioclasscount AGXResource"},
			{"power and heat, every 5 s", "sudo powermetrics --samplers gpu_power,thermal -i 5000"},
		}
	case "linux":
		out = []watch{
			{"memory and swap, every 5 s (si and so: swapped in and out)", "vmstat 5"},
			{"how long tasks waited for memory", "cat /proc/pressure/memory"},
			{"what holds memory", "top -o %MEM"},
		}
		if g := s.Cgroup; g != nil && g.UsageBytes.Known() && g.Version == 2 {
			dir := path.Join("/sys/fs/cgroup", g.Path)
			out = append(out, watch{"the control group's memory and kills", "cat " + dir + "/memory.current " + dir + "/memory.events"})
		}
		if s.GPU.Kind == "cuda" {
			out = append(out, watch{"the GPU, every 5 s", "nvidia-smi --query-gpu=memory.used,utilization.gpu,clocks.sm,temperature.gpu --format=csv -l 5"})
		}
	}
	return append(out, watch{"a training of mlxdyno's", "mlxdyno report last"})
}

// monitor lists commands to watch with.
func (p *page) monitor(s probe.Snapshot) {
	p.heading("To watch while it trains")
	for _, w := range watches(s) {
		p.text(2, plain, w.what)
		p.verbatim("    $ ", plain, w.command)
	}
}
