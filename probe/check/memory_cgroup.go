package check

import (
	"github.com/mlxdyno/mlxdyno/probe"
	"github.com/mlxdyno/mlxdyno/trainer"
)

// cpuLimitShare is MLX's default memory limit on a CPU, as a share of RAM.
const cpuLimitShare = 0.8

var memoryCgroup = Check{
	Code: "memory.cgroup",
	Story: Story{
		Title: "Memory limit of the control group",
		Means: "A container or service limit is tighter than the machine's memory. MLX's default limit is 80 % of the machine's and ignores it, so the kernel kills the training before MLX holds back.",
		How:   "The tightest limit among the control group and its ancestors is compared with MLX's limit.",
		Do:    "Set --memory-limit below the group's limit, or raise the group's limit.",
	},
	run: func(in Input) probe.Finding {
		g, m := in.Snapshot.Cgroup, in.Snapshot.Memory
		if g == nil || in.backend() == "metal" {
			return probe.Finding{}
		}
		limit, limited := g.LimitBytes.Get()
		total, ok := m.TotalBytes.Get()
		if !limited {
			if g.LimitBytes.Reason() == "no limit" {
				return pass("No control group limits memory")
			}
			return notRead("The control group's memory limit is unknown", g.LimitBytes)
		}
		if ok && limit >= total {
			return pass("The control group may use all memory", size("group limit", limit, "", g.LimitBytes.Source()))
		}
		evidence := []probe.Evidence{size("group limit", limit, "", g.LimitBytes.Source())}
		if ok {
			evidence = append(evidence, size("physical memory", total, "", m.TotalBytes.Source()))
		}
		if kills, ok := g.OOMKills.Get(); ok && kills > 0 {
			evidence = append(evidence, count("kills in this group", kills, "", "0", g.OOMKills.Source()))
		}
		title := "MLX does not know the control group's limit of " + trainer.FormatBytes(limit)
		switch set := in.config().Plan.MemoryLimit; {
		case in.backend() == "cuda":
			return finding(probe.Info, "A control group limits host memory to "+trainer.FormatBytes(limit), "the GPU's own memory is not affected", evidence...)
		case set.IsSet && set.Bytes <= limit:
			return pass("The memory limit is below the control group's", append(evidence, size("memory limit", set.Bytes, "", "--memory-limit"))...)
		case set.IsSet:
			title = "The memory limit is above the control group's"
			evidence = append(evidence, size("memory limit", set.Bytes, "≤ "+trainer.FormatBytes(limit), "--memory-limit"))
		case !ok:
			return notRead("Whether MLX's own limit respects the control group is unknown", m.TotalBytes)
		case int64(cpuLimitShare*float64(total)) <= limit:
			return pass("MLX's own limit is below the control group's", evidence...)
		default:
			evidence = append(evidence, size("MLX's default limit", int64(cpuLimitShare*float64(total)), "≤ "+trainer.FormatBytes(limit), "80 % of RAM"))
		}
		f := finding(probe.Warn, title, "MLX keeps allocating until the kernel kills the process", evidence...)
		f.Fix = []probe.Fix{{Text: "Leave the interpreter some room below the group's limit",
			Command: Command("doctor", in.Settings, Change{"memory-limit", megabytes(limit * 85 / 100)})}}
		return f
	},
}
