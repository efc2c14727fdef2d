package check

import (
	"github.com/mlxdyno/mlxdyno/probe"
	"github.com/mlxdyno/mlxdyno/trainer"
)

const applePageBytes = 16384

var memoryPageSize = Check{
	Code: "memory.page-size",
	Story: Story{
		Title: "Page size",
		Means: "Memory was counted in pages of 4096 bytes on a machine whose pages have 16384, so that what is available looks four times too small.",
		How:   "The page size in the snapshot is compared with Apple silicon's.",
		Do:    "Do not trust limits derived from that figure; take a new snapshot with mlxdyno doctor.",
	},
	run: func(in Input) probe.Finding {
		s := in.Snapshot
		if s.Host.OS != "darwin" || s.Host.Arch != "arm64" {
			return probe.Finding{}
		}
		page, ok := s.Memory.PageBytes.Get()
		if !ok {
			return notRead("The page size is unknown", s.Memory.PageBytes)
		}
		if page == applePageBytes {
			return pass("Memory is counted in pages of 16384 bytes", count("page size", page, "bytes", "", s.Memory.PageBytes.Source()))
		}
		evidence := []probe.Evidence{count("page size", page, "bytes", "16384 bytes", s.Memory.PageBytes.Source())}
		if available, ok := s.Memory.AvailableBytes.Get(); ok && page > 0 {
			evidence = append(evidence,
				size("available as counted", available, trainer.FormatBytes(available*applePageBytes/page), s.Memory.AvailableBytes.Source()))
		}
		f := finding(probe.Warn, "Memory was counted with the wrong page size",
			"Apple silicon has pages of 16384 bytes; every figure counted in pages, and every limit made from one, is off by the ratio", evidence...)
		f.Fix = []probe.Fix{{Text: "Take a new snapshot and set limits from it", Command: Command("doctor", in.Settings)}}
		return f
	},
}
