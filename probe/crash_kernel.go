package probe

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

var (
	kernelKill = regexp.MustCompile(`(?:Memory cgroup out of memory|Out of memory)[^:]*: Kill(?:ed)? process (\d+) \(([^)]*)\)`)
	kernelRSS  = regexp.MustCompile(`anon-rss:(\d+)kB`)
	kernelXid  = regexp.MustCompile(`NVRM: Xid \([^)]*\): (\d+)(?:, pid='?(\d+)'?, name=([^,\n]*))?`)
)

// parseKernelLog reads, from records as /dev/kmsg has them, who was killed for
// want of memory and what NVIDIA's driver lost, the newest first. booted is when
// the clock of the records began.
func parseKernelLog(log string, booted time.Time) []Crash {
	const source = "/dev/kmsg"
	var out []Crash
	for line := range strings.Lines(log) {
		head, text, ok := strings.Cut(strings.TrimRight(line, "\n"), ";")
		fields := strings.Split(head, ",")
		if !ok || len(fields) < 3 {
			continue // a continuation
		}
		c := Crash{Text: oneLine(text), Source: source, Bytes: Unknown[int64]("the kernel's record does not say it", source)}
		if m := kernelKill.FindStringSubmatch(text); m != nil {
			c.Kind, c.PID, c.Process = CrashOOM, pid(m[1]), m[2]
			if rss := kernelRSS.FindStringSubmatch(text); rss != nil {
				c.Bytes = pagesBytes(rss[1], "1024", source)
			}
		} else if m := kernelXid.FindStringSubmatch(text); m != nil {
			c.Kind, c.PID, c.Process = CrashGPU, pid(m[2]), strings.TrimSpace(m[3])
		} else {
			continue
		}
		if us, err := strconv.ParseInt(fields[2], 10, 64); err == nil && us >= 0 && us < 1e16 && !booted.IsZero() {
			c.At = booted.Add(time.Duration(us) * time.Microsecond).UTC()
		}
		out = append(out, c)
	}
	slices.Reverse(out)
	return out[:min(len(out), crashesShown)]
}
