package probe

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Usage is what one process uses at one moment.
type Usage struct {
	PID       int
	Name      Value[string]
	StartedAt Value[int64]         // in any unit: tells two processes of one number apart
	Footprint Value[int64]         // bytes that the system charges it with
	Resident  Value[int64]         // bytes in memory; on a Mac without those of the GPU
	Threads   Value[int]           //
	CPU       Value[time.Duration] // since its start, of all threads
	Ended     bool                 // it is gone, or a zombie
}

// UsageOf reads what a process uses. What another user's process does not tell
// is unknown, with the reason; a process that has ended is no error.
func UsageOf(pid int) Usage { return platformUsage(pid) }

// ticksASecond is Linux's USER_HZ, which is 100 on every architecture that MLX
// runs on.
const ticksASecond = 100

// usage reads a process below /proc.
func (p procfs) usage(pid int) Usage {
	u := Usage{PID: pid}
	at := func(file string) string { return fmt.Sprintf("/proc/%d/%s", pid, file) }
	stat, err := p.file(at("stat"))
	if err != nil {
		u.Ended = err.Error() == "does not exist" || strings.Contains(err.Error(), "no such process")
		u.unknown(err.Error(), at("stat"))
		return u
	}
	if !u.decodeStat(stat, at("stat")) {
		u.unknown("cannot be read", at("stat"))
		return u
	}
	if u.Ended {
		return u
	}
	u.Resident = Unknown[int64]("cannot be read", at("statm"))
	if statm, err := p.file(at("statm")); err != nil {
		u.Resident = Unknown[int64](err.Error(), at("statm"))
	} else if pages, ok := parseStatm(statm); ok && pages < math.MaxInt64/p.pageBytes {
		u.Resident = Known(pages*p.pageBytes, at("statm"))
	}
	rollup, err := p.file(at("smaps_rollup"))
	if err == nil {
		if pss, ok := parsePss(rollup); ok {
			u.Footprint = Known(pss, at("smaps_rollup")+" Pss")
			return u
		}
	}
	u.Footprint = u.Resident // of another user's process; shared pages count in full
	return u
}

func (u *Usage) unknown(reason, source string) {
	u.Name, u.StartedAt = Unknown[string](reason, source), Unknown[int64](reason, source)
	u.Footprint, u.Resident = Unknown[int64](reason, source), Unknown[int64](reason, source)
	u.Threads, u.CPU = Unknown[int](reason, source), Unknown[time.Duration](reason, source)
}

// decodeStat reads /proc/PID/stat, whose second field is a name in parentheses
// that may hold any character.
func (u *Usage) decodeStat(text, source string) bool {
	open, end := strings.IndexByte(text, '('), strings.LastIndexByte(text, ')')
	if open < 0 || end < open {
		return false
	}
	f := strings.Fields(text[end+1:])
	const state, user, system, threads, start = 0, 11, 12, 17, 19
	if len(f) <= start {
		return false
	}
	count := func(i int, most int64) (int64, bool) {
		n, err := strconv.ParseInt(f[i], 10, 64)
		return n, err == nil && n >= 0 && n <= most
	}
	const most = math.MaxInt64 / int64(time.Second) / 2
	utime, ok1 := count(user, most)
	stime, ok2 := count(system, most)
	n, ok3 := count(threads, math.MaxInt32)
	began, ok4 := count(start, math.MaxInt64)
	if !ok1 || !ok2 || !ok3 || !ok4 {
		return false
	}
	u.Name, u.StartedAt = Known(text[open+1:end], source), Known(began, source)
	u.Threads, u.CPU = Known(int(n), source), Known(time.Duration(utime+stime)*(time.Second/ticksASecond), source)
	u.Ended = f[state] == "Z" || f[state] == "X"
	return true
}

// parsePss reads the proportional set of smaps_rollup: pages that are shared
// count in parts.
func parsePss(text string) (int64, bool) {
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, "Pss:"); ok {
			f := strings.Fields(rest)
			if len(f) != 2 || f[1] != "kB" {
				return 0, false
			}
			n, err := strconv.ParseInt(f[0], 10, 64)
			return n << 10, err == nil && n >= 0 && n < math.MaxInt64>>10
		}
	}
	return 0, false
}
