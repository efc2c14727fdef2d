package probe

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// decodeVMStat fills, from what vm_stat prints, everything that counts pages.
func decodeVMStat(text string, s *Snapshot) {
	const source = "vm_stat"
	pages, pageBytes, ok := parseVMStat(text)
	of := func(keys ...string) Value[int64] {
		if !ok {
			return Unknown[int64]("its first line names no page size", source)
		}
		var sum int64
		for _, key := range keys {
			n, has := pages[key]
			if !has {
				return Unknown[int64](fmt.Sprintf("has no line %q", key), source)
			}
			if n > math.MaxInt64/pageBytes-sum {
				return Unknown[int64]("is impossibly large", source)
			}
			sum += n
		}
		return Known(sum*pageBytes, source)
	}
	s.Memory.WiredBytes = of("Pages wired down")
	s.Memory.CompressedBytes = of("Pages occupied by compressor")
	// Free pages, and those that can be dropped without writing them anywhere.
	// Inactive pages do not count: most have to be compressed or swapped first.
	s.Memory.AvailableBytes = of("Pages free", "File-backed pages", "Pages purgeable")
	s.Swap.InBytes, s.Swap.OutBytes = of("Swapins"), of("Swapouts")
}

// parseVMStat returns the counts by name, and the page size from the first
// line. Not every Mac has the same one.
func parseVMStat(text string) (pages map[string]int64, pageBytes int64, ok bool) {
	first, rest, _ := strings.Cut(text, "\n")
	_, size, _ := strings.Cut(first, "page size of ")
	size, _, _ = strings.Cut(size, " bytes")
	pageBytes, err := strconv.ParseInt(size, 10, 64)
	if err != nil || pageBytes <= 0 || pageBytes > 1<<30 {
		return nil, 0, false
	}
	pages = map[string]int64{}
	for line := range strings.Lines(rest) {
		key, value, _ := strings.Cut(line, ":")
		n, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), "."), 10, 64)
		if err == nil && n >= 0 {
			pages[strings.Trim(key, `"`)] = n
		}
	}
	return pages, pageBytes, true
}

// parsePowerMode reads the settings in use from what `pmset -g` prints. Macs
// with a high power mode have powermode; others have lowpowermode alone.
func parsePowerMode(text string) Value[PowerMode] {
	const source = "pmset -g"
	settings := map[string]string{}
	for line := range strings.Lines(text) {
		if fields := strings.Fields(line); len(fields) >= 2 {
			settings[fields[0]] = fields[1]
		}
	}
	if mode, ok := map[string]PowerMode{"0": PowerNormal, "1": PowerLow, "2": PowerHigh}[settings["powermode"]]; ok {
		return Known(mode, source+" powermode")
	}
	if mode, ok := map[string]PowerMode{"0": PowerNormal, "1": PowerLow}[settings["lowpowermode"]]; ok {
		return Known(mode, source+" lowpowermode")
	}
	return Unknown[PowerMode]("names no power mode", source)
}

// parseUtilization reads how busy the GPU is from what
// `ioreg -r -d1 -c AGXAccelerator` prints.
func parseUtilization(text string) Value[int] {
	const source = "ioreg AGXAccelerator"
	const key = `"Device Utilization %"=`
	_, rest, ok := strings.Cut(text, key)
	if !ok {
		return Unknown[int]("names no device utilization", source)
	}
	end := 0
	for end < len(rest) && rest[end] >= '0' && rest[end] <= '9' {
		end++
	}
	n, err := strconv.Atoi(rest[:end])
	if err != nil || n > 100 {
		return Unknown[int]("its device utilization is no percentage", source)
	}
	return Known(n, source)
}

// parseClassCount reads what `ioclasscount NAME` prints: "NAME = 1234".
func parseClassCount(text string) Value[int64] {
	const source = "ioclasscount AGXResource"
	name, count, ok := strings.Cut(strings.TrimSpace(text), "=")
	n, err := strconv.ParseInt(strings.TrimSpace(count), 10, 64)
	if !ok || err != nil || n < 0 || strings.TrimSpace(name) != "AGXResource" {
		return Unknown[int64]("does not count AGXResource", source)
	}
	return Known(n, source)
}

// parseThermal reads what `pmset -g therm` prints, which is weak evidence: a
// speed limit below 100 % says that the processor is held back, and anything
// else says nothing of the GPU.
func parseThermal(text string) Value[Thermal] {
	const source = "pmset -g therm"
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(line, "=")
		if strings.TrimSpace(name) != "CPU_Speed_Limit" {
			continue
		}
		switch n, err := strconv.Atoi(strings.TrimSpace(value)); {
		case err != nil || n < 0 || n > 100:
			return Unknown[Thermal]("its speed limit is no percentage", source)
		case n < 100:
			return Known(ThermalHeavy, source+" CPU_Speed_Limit")
		}
	}
	return Unknown[Thermal]("knows only the processor's speed limit, which is not in force", source)
}

// topUnits are the units in which top prints memory.
var topUnits = map[byte]int64{'B': 1, 'K': 1 << 10, 'M': 1 << 20, 'G': 1 << 30, 'T': 1 << 40}

// parseTop reads the table that `top -l 1 -stats pid,mem,command` prints below
// its summary.
func parseTop(text string) []Process {
	var out []Process
	table := false
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) < 3 {
			continue
		}
		if !table {
			table = fields[0] == "PID" && fields[1] == "MEM"
			continue
		}
		pid, err := strconv.ParseInt(strings.TrimRight(fields[0], "*"), 10, 32)
		size := strings.TrimRight(fields[1], "+-") // since the last sample
		if err != nil || pid < 0 || len(size) < 2 {
			continue
		}
		unit, ok := topUnits[size[len(size)-1]]
		n, err := strconv.ParseInt(size[:len(size)-1], 10, 64)
		if !ok || err != nil || n < 0 || n > math.MaxInt64/unit {
			continue
		}
		const source = "top"
		out = append(out, Process{PID: int32(pid), Name: strings.Join(fields[2:], " "),
			ResidentBytes: Unknown[int64]("top tells the footprint only", source), FootprintBytes: Known(n*unit, source)})
	}
	return out
}
