package check

import (
	"fmt"

	"github.com/mlxdyno/mlxdyno/probe"
	"github.com/mlxdyno/mlxdyno/probe/patient"
	"github.com/mlxdyno/mlxdyno/trainer"
)

const (
	pageRatio     = 4.0  // of Apple silicon's page to the one that was taken for it
	pageTolerance = 0.25 // available memory changes between a log and a snapshot
)

var patientPageSize = Check{
	Code: "patient.page-size",
	Story: Story{
		Title: "Memory counted with the wrong page size",
		Means: "The trainer counted free memory in pages of 4096 bytes on a machine whose pages have 16384: what it believes to be available is a quarter of the truth, and so is every limit that it makes of it.",
		How:   "What it says is available, against what the snapshot says, on Apple silicon.",
		Do:    "Give it a limit by hand, from the memory that the machine has, and read the page size from the system (sysctl hw.pagesize).",
	},
	run: func(in Input) probe.Finding {
		if in.Patient == nil || in.Snapshot.Host.OS != "darwin" || in.Snapshot.Host.Arch != "arm64" {
			return probe.Finding{}
		}
		told, ok := in.Patient.Record.Told[patient.Available]
		if !ok {
			return probe.Finding{}
		}
		truth, ok := in.Snapshot.Memory.AvailableBytes.Get()
		if !ok {
			return notRead("Whether it counts free memory rightly is unknown", in.Snapshot.Memory.AvailableBytes)
		}
		ratio, unit := nearest(pageRatio, float64(truth), told)
		evidence := []probe.Evidence{
			said("available, as it believes", told.Printed, trainer.FormatBytes(truth), in.printed()),
			size("available, as the machine says", truth, "", in.Snapshot.Memory.AvailableBytes.Source()),
			number("ratio", ratio, "", "1", unit),
		}
		if page, ok := in.Snapshot.Memory.PageBytes.Get(); ok {
			evidence = append(evidence, count("page size", page, "bytes", "", in.Snapshot.Memory.PageBytes.Source()))
		}
		switch {
		case ratio > pageRatio*(1-pageTolerance) && ratio < pageRatio*(1+pageTolerance):
		case ratio < 2:
			return pass("It counts free memory about right", evidence...)
		default:
			f := unclear("It believes in less free memory than there is", "the ratio is not that of page sizes; the snapshot may be of another time")
			f.Evidence = evidence
			return f
		}
		f := finding(probe.Warn, fmt.Sprintf("It counts free memory in pages of 4096 bytes: %s instead of %s", told.Printed, trainer.FormatBytes(truth)),
			"Apple silicon's pages have 16384 bytes, so that what it believes to be available is a quarter of the truth", evidence...)
		if limit, ok := in.Patient.Record.Told[patient.Limit]; ok {
			f.Evidence = append(f.Evidence, said("memory limit that it made of it", limit.Printed, "", in.printed()))
			f.Why += "; its memory limit of " + amount(limit) + " comes from that"
		}
		f.Confidence = probe.Likely
		f.Fix = []probe.Fix{in.own("--max-memory", in.safeGB(), "Set its memory limit by hand, to what the machine has to give")}
		return f
	},
}

// nearest is how many times an amount fits into bytes, in the reading of its
// unit that comes nearer to what is expected.
func nearest(expected, bytes float64, a patient.Amount) (ratio float64, unit string) {
	if a.Bytes <= 0 || a.Binary <= 0 {
		return 0, "its unit"
	}
	decimal, binary := bytes/float64(a.Bytes), bytes/float64(a.Binary)
	if abs(binary-expected) < abs(decimal-expected) {
		return binary, "if its units are binary"
	}
	if a.Bytes == a.Binary {
		return decimal, "bytes"
	}
	return decimal, "if its units are decimal"
}

func abs(v float64) float64 { return max(v, -v) }

// amount is memory as it was printed, and in a unit that can be read.
func amount(a patient.Amount) string {
	if a.Resolution == 1 {
		return trainer.FormatBytes(a.Bytes)
	}
	return a.Printed
}

// safeGB is a limit in GB that leaves the system a tenth.
func (in Input) safeGB() string {
	bytes, ok := in.limit().Bytes.Get()
	if !ok {
		return "GB"
	}
	return fmt.Sprintf("%.1f", 0.9*float64(bytes)/(1<<30))
}
