package probe

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"slices"
	"strconv"
	"strings"
)

// procfs reads Linux's /proc and /sys below a root, which is the machine's own
// or a fixture's.
type procfs struct {
	root      fs.FS
	pageBytes int64
	nvml      func() (nvmlReading, error) // nil leaves it to nvidia-smi
}

// file returns the text of a file that is named by its absolute path.
func (p procfs) file(path string) (string, error) {
	b, err := fs.ReadFile(p.root, strings.TrimPrefix(path, "/"))
	if err != nil {
		return "", fileProblem(err)
	}
	return string(b), nil
}

// fileProblem drops the path from a file's error: the value's source has it.
func fileProblem(err error) error {
	var pathErr *fs.PathError
	if errors.As(err, &pathErr) {
		err = pathErr.Err
	}
	if errors.Is(err, fs.ErrNotExist) {
		return errors.New("does not exist")
	}
	return err
}

func (p procfs) host(s *Snapshot) {
	h := &s.Host
	h.OSVersion = textValue(p, "/etc/os-release", parseOSRelease)
	h.Kernel = textValue(p, "/proc/sys/kernel/osrelease", firstLine)
	h.Chip = textValue(p, "/proc/cpuinfo", parseCPUModel)
	h.HardwareModel = textValue(p, "/sys/class/dmi/id/product_name", firstLine)
	if !h.HardwareModel.Known() {
		if v := textValue(p, "/sys/firmware/devicetree/base/model", firstLine); v.Known() {
			h.HardwareModel = v
		}
	}
	h.UptimeSeconds = textValue(p, "/proc/uptime", func(t string) (uint64, bool) {
		f, ok := firstFloat(t)
		return uint64(f), ok && f < 1<<53
	})
	h.Load1 = textValue(p, "/proc/loadavg", firstFloat)
}

// memory fills Memory and Swap.
func (p procfs) memory(s *Snapshot) {
	const info, stat = "/proc/meminfo", "/proc/vmstat"
	mem, err := fileMap(p, info, parseMeminfo)
	of := func(key string) Value[int64] { return mapValue(mem, err, key, info) }
	s.Memory = Memory{
		TotalBytes:      of("MemTotal"),
		AvailableBytes:  of("MemAvailable"),
		PageBytes:       Known(p.pageBytes, "page size"),
		WiredBytes:      of("Mlocked"),
		CompressedBytes: of("Zswap"),
	}
	s.Swap.TotalBytes = of("SwapTotal")
	free := of("SwapFree")
	switch total, ok := s.Swap.TotalBytes.Get(); {
	case !ok:
		s.Swap.UsedBytes = s.Swap.TotalBytes
	case !free.Known():
		s.Swap.UsedBytes = free
	default:
		s.Swap.UsedBytes = Known(max(total-free.Or(0), 0), info+" SwapTotal, SwapFree")
	}

	counters, err := fileMap(p, stat, parseVmstat)
	pages := func(key string) Value[int64] {
		v := mapValue(counters, err, key, stat)
		if n, ok := v.Get(); ok && n > math.MaxInt64/p.pageBytes {
			return Unknown[int64]("is impossibly large", v.Source())
		} else if ok {
			return Known(n*p.pageBytes, v.Source())
		}
		return v
	}
	s.Swap.InBytes, s.Swap.OutBytes = pages("pswpin"), pages("pswpout")
}

func (p procfs) pressure(s *Snapshot) {
	const psi, stat = "/proc/pressure/memory", "/proc/vmstat"
	stalls, err := fileMap(p, psi, parsePressure)
	s.Pressure.SomeAvg10 = mapValue(stalls, err, "some", psi)
	s.Pressure.FullAvg10 = mapValue(stalls, err, "full", psi)

	counters, err := fileMap(p, stat, parseVmstat)
	kills := mapValue(counters, err, "oom_kill", stat)
	if n, ok := kills.Get(); ok {
		s.Pressure.OOMKills = Known(uint64(n), kills.Source())
	} else {
		s.Pressure.OOMKills = Unknown[uint64](kills.Reason(), kills.Source())
	}
}

// processes lists the n largest by resident memory.
func (p procfs) processes(n int) []Process {
	entries, err := fs.ReadDir(p.root, "proc")
	if err != nil || n <= 0 {
		return nil
	}
	var out []Process
	for _, e := range entries {
		pid, err := strconv.ParseInt(e.Name(), 10, 32)
		if err != nil {
			continue
		}
		source := "/proc/" + e.Name() + "/statm"
		statm, err := p.file(source)
		if err != nil {
			continue // it has ended
		}
		if pages, ok := parseStatm(statm); ok && pages > 0 && pages < math.MaxInt64/p.pageBytes {
			out = append(out, Process{PID: int32(pid), ResidentBytes: Known(pages*p.pageBytes, source)})
		}
	}
	out = largest(out, n, func(q Process) int64 { return q.ResidentBytes.Or(0) })
	for i := range out {
		name, _ := p.file(fmt.Sprintf("/proc/%d/comm", out[i].PID))
		out[i].Name = strings.TrimSpace(name)
	}
	return out
}

// largest returns the n processes with the most bytes, most first.
func largest(all []Process, n int, bytes func(Process) int64) []Process {
	slices.SortFunc(all, func(a, b Process) int {
		return cmp.Or(cmp.Compare(bytes(b), bytes(a)), cmp.Compare(a.PID, b.PID))
	})
	return slices.Clip(all[:min(n, len(all))])
}

// textValue reads path and parses it.
func textValue[T any](p procfs, path string, parse func(string) (T, bool)) Value[T] {
	text, err := p.file(path)
	if err != nil {
		return Unknown[T](err.Error(), path)
	}
	v, ok := parse(text)
	if !ok {
		return Unknown[T]("its text is not understood", path)
	}
	return Known(v, path)
}

func fileMap[T any](p procfs, path string, parse func(string) map[string]T) (map[string]T, error) {
	text, err := p.file(path)
	if err != nil {
		return nil, err
	}
	return parse(text), nil
}

func mapValue[T any](m map[string]T, err error, key, path string) Value[T] {
	source := path + " " + key
	if err != nil {
		return Unknown[T](err.Error(), source)
	}
	v, ok := m[key]
	if !ok {
		return Unknown[T]("has no such line", source)
	}
	return Known(v, source)
}

// parseMeminfo returns the sizes in /proc/meminfo in bytes.
func parseMeminfo(text string) map[string]int64 {
	out := map[string]int64{}
	for line := range strings.Lines(text) {
		key, rest, _ := strings.Cut(line, ":")
		fields := strings.Fields(rest)
		if len(fields) != 2 || fields[1] != "kB" {
			continue
		}
		if n, err := strconv.ParseInt(fields[0], 10, 64); err == nil && n >= 0 && n <= math.MaxInt64/1024 {
			out[key] = n * 1024
		}
	}
	return out
}

// parseVmstat returns the counters in /proc/vmstat.
func parseVmstat(text string) map[string]int64 {
	out := map[string]int64{}
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) != 2 {
			continue
		}
		if n, err := strconv.ParseInt(fields[1], 10, 64); err == nil && n >= 0 {
			out[fields[0]] = n
		}
	}
	return out
}

// parsePressure returns avg10, in percent, of the lines "some" and "full".
func parsePressure(text string) map[string]float64 {
	out := map[string]float64{}
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		if avg, ok := strings.CutPrefix(fields[1], "avg10="); ok {
			if f, ok := firstFloat(avg); ok {
				out[fields[0]] = f
			}
		}
	}
	return out
}

// parseCPUModel returns the name of the first processor. ARM kernels give
// numbers only.
func parseCPUModel(text string) (string, bool) {
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(line, ":")
		if strings.TrimSpace(key) == "model name" && strings.TrimSpace(value) != "" {
			return strings.TrimSpace(value), true
		}
	}
	return "", false
}

func parseOSRelease(text string) (string, bool) {
	for line := range strings.Lines(text) {
		if v, ok := strings.CutPrefix(strings.TrimSpace(line), "PRETTY_NAME="); ok {
			v = strings.Trim(v, `"'`)
			return v, v != ""
		}
	}
	return "", false
}

// parseStatm returns the resident pages of a process.
func parseStatm(text string) (int64, bool) {
	fields := strings.Fields(text)
	if len(fields) < 2 {
		return 0, false
	}
	n, err := strconv.ParseInt(fields[1], 10, 64)
	return n, err == nil && n >= 0
}

func firstLine(text string) (string, bool) {
	line, _, _ := strings.Cut(text, "\n")
	line = strings.Trim(line, " \t\r\x00")
	return line, line != ""
}

func firstFloat(text string) (float64, bool) {
	fields := strings.Fields(text)
	if len(fields) == 0 {
		return 0, false
	}
	f, err := strconv.ParseFloat(fields[0], 64)
	return f, err == nil && f >= 0 && !math.IsInf(f, 0)
}
