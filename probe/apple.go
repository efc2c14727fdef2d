package probe

import (
	"encoding/binary"
	"fmt"
	"math"
	"strings"
	"time"
)

// sysctl returns the bytes of one of macOS's named values. Everything below is
// decoding: it works on any system from recorded bytes.
type sysctl func(name string) ([]byte, error)

func (get sysctl) text(name string) Value[string] {
	raw, err := get(name)
	if err != nil {
		return Unknown[string](err.Error(), "sysctl "+name)
	}
	text, _, _ := strings.Cut(string(raw), "\x00")
	if text = strings.TrimSpace(text); text == "" {
		return Unknown[string]("is empty", "sysctl "+name)
	}
	return Known(text, "sysctl "+name)
}

// number decodes an integer of four or eight bytes.
func (get sysctl) number(name string) Value[int64] {
	source := "sysctl " + name
	raw, err := get(name)
	if err != nil {
		return Unknown[int64](err.Error(), source)
	}
	var n uint64
	switch len(raw) {
	case 4:
		n = uint64(binary.LittleEndian.Uint32(raw))
	case 8:
		n = binary.LittleEndian.Uint64(raw)
	default:
		return Unknown[int64](fmt.Sprintf("has %d bytes, not 4 or 8", len(raw)), source)
	}
	if n > math.MaxInt64 {
		return Unknown[int64]("is impossibly large", source)
	}
	return Known(int64(n), source)
}

// fixed returns raw bytes of a struct of at least size bytes.
func (get sysctl) fixed(name string, size int) ([]byte, error) {
	raw, err := get(name)
	if err != nil {
		return nil, err
	}
	if len(raw) < size {
		return nil, fmt.Errorf("has %d bytes, not %d", len(raw), size)
	}
	return raw, nil
}

func (get sysctl) host(s *Snapshot, now time.Time) {
	h := &s.Host
	h.OSVersion = get.text("kern.osproductversion")
	h.Kernel = get.text("kern.osrelease")
	h.Chip = get.text("machdep.cpu.brand_string")
	h.HardwareModel = get.text("hw.model")
	h.Cores = asInt(get.number("hw.logicalcpu"))
	h.PerformanceCores = asInt(get.number("hw.perflevel0.logicalcpu"))
	h.UptimeSeconds = get.uptime(now)
	h.Load1 = get.load1()
}

// uptime reads kern.boottime, a struct timeval whose first 8 bytes are seconds.
func (get sysctl) uptime(now time.Time) Value[uint64] {
	const source = "sysctl kern.boottime"
	raw, err := get.fixed("kern.boottime", 8)
	if err != nil {
		return Unknown[uint64](err.Error(), source)
	}
	boot := int64(binary.LittleEndian.Uint64(raw))
	if boot <= 0 || boot > now.Unix() {
		return Unknown[uint64]("the system says it started after now", source)
	}
	return Known(uint64(now.Unix()-boot), source)
}

// load1 reads vm.loadavg: three 32-bit fixed-point numbers and, at 16, the
// 64-bit scale.
func (get sysctl) load1() Value[float64] {
	const source = "sysctl vm.loadavg"
	raw, err := get.fixed("vm.loadavg", 24)
	if err != nil {
		return Unknown[float64](err.Error(), source)
	}
	scale := binary.LittleEndian.Uint64(raw[16:])
	if scale == 0 {
		return Unknown[float64]("has the scale 0", source)
	}
	return Known(float64(binary.LittleEndian.Uint32(raw))/float64(scale), source)
}

// memory fills what the kernel says without counting pages.
func (get sysctl) memory(s *Snapshot) {
	s.Memory.TotalBytes = get.number("hw.memsize")
	s.Memory.PageBytes = get.number("hw.pagesize")
	s.Memory.FreePercent = asInt(get.number("kern.memorystatus_level"))
	if n, ok := s.Memory.FreePercent.Get(); ok && n > 100 {
		s.Memory.FreePercent = Unknown[int](fmt.Sprintf("is %d, which is no percentage", n), s.Memory.FreePercent.Source())
	}
	s.Swap.TotalBytes, s.Swap.UsedBytes = get.swap()
	s.Pressure.Level = get.pressure()
}

// swap reads vm.swapusage: total at 0, available at 8, used at 16.
func (get sysctl) swap() (total, used Value[int64]) {
	const source = "sysctl vm.swapusage"
	raw, err := get.fixed("vm.swapusage", 32)
	if err != nil {
		return Unknown[int64](err.Error(), source), Unknown[int64](err.Error(), source)
	}
	at := func(offset int) Value[int64] {
		n := binary.LittleEndian.Uint64(raw[offset:])
		if n > math.MaxInt64 {
			return Unknown[int64]("is impossibly large", source)
		}
		return Known(int64(n), source)
	}
	return at(0), at(16)
}

func (get sysctl) pressure() Value[PressureLevel] {
	level := get.number("kern.memorystatus_vm_pressure_level")
	n, ok := level.Get()
	if !ok {
		return Unknown[PressureLevel](level.Reason(), level.Source())
	}
	known, ok := map[int64]PressureLevel{1: PressureNormal, 2: PressureWarn, 4: PressureCritical}[n]
	if !ok {
		return Unknown[PressureLevel](fmt.Sprintf("is %d, not 1, 2 or 4", n), level.Source())
	}
	return Known(known, level.Source())
}

// mlxResourceLimit is what MLX takes where the system does not say.
const mlxResourceLimit = 499000

func (get sysctl) gpu(s *Snapshot) {
	g := &s.GPU
	g.Name = get.text("machdep.cpu.brand_string") // the GPU is part of the chip
	g.WiredLimitBytes = get.wiredLimit()
	g.ResourceLimit = get.number("iogpu.rsrc_limit")
	if n, ok := g.ResourceLimit.Get(); !ok || n == 0 {
		g.ResourceLimit = Known[int64](mlxResourceLimit, "MLX's default, without sysctl iogpu.rsrc_limit")
	}
}

func (get sysctl) wiredLimit() Value[int64] {
	limit := get.number("iogpu.wired_limit_mb")
	if mib, ok := limit.Get(); ok {
		if mib > math.MaxInt64>>20 {
			return Unknown[int64]("is impossibly large", limit.Source())
		}
		return Known(mib<<20, limit.Source())
	}
	// Before macOS 14 there was only this one, whose unit nobody documents; 0
	// means the default in any unit.
	older := get.number("debug.iogpu.wired_limit")
	switch n, ok := older.Get(); {
	case !ok:
		return limit
	case n == 0:
		return older
	default:
		return Unknown[int64](fmt.Sprintf("is %d in a unit that is not documented", n), older.Source())
	}
}

// Offsets in struct rusage_info_v4, which proc_pid_rusage fills.
const (
	rusageV4Bytes     = 296
	rusageResidentAt  = 64
	rusageFootprintAt = 72
)

// decodeRusage takes a process's memory from a rusage_info_v4.
func decodeRusage(raw []byte) (resident, footprint Value[int64]) {
	const source = "proc_pid_rusage"
	at := func(offset int) Value[int64] {
		if len(raw) < rusageV4Bytes {
			return Unknown[int64](fmt.Sprintf("has %d bytes, not %d", len(raw), rusageV4Bytes), source)
		}
		n := binary.LittleEndian.Uint64(raw[offset:])
		if n > math.MaxInt64 {
			return Unknown[int64]("is impossibly large", source)
		}
		return Known(int64(n), source)
	}
	return at(rusageResidentAt), at(rusageFootprintAt)
}
