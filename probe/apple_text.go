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
