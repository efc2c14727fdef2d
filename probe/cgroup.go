package probe

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strconv"
	"strings"
)

// cgroup fills s.Cgroup with the memory limits of this process's control group,
// or sets it to nil where there are no control groups.
func (p procfs) cgroup(s *Snapshot) {
	const self = "/proc/self/cgroup"
	text, err := p.file(self)
	if err != nil {
		s.Cgroup = nil
		return
	}
	mounts, err := p.file("/proc/self/mountinfo")
	if err != nil {
		s.Cgroup = nil
		return
	}
	g, ok := findCgroup(parseCgroups(text), parseMounts(mounts))
	if !ok {
		s.Cgroup = nil
		return
	}
	s.Cgroup = p.readCgroup(g)
}

// cgroupDir is a group as a process sees it: its directory and the mount that
// the directory is below.
type cgroupDir struct {
	version    int
	path       string // as /proc/self/cgroup names it
	mount, dir string
}

// findCgroup picks the hierarchy that limits memory: of version 1 when the
// memory controller is mounted there, otherwise version 2.
func findCgroup(groups map[string]string, mounts []mount) (cgroupDir, bool) {
	for _, version := range []int{1, 2} {
		controller := map[int]string{1: "memory", 2: ""}[version]
		group, ok := groups[controller]
		if !ok {
			continue
		}
		for _, m := range mounts {
			if version == 1 && m.kind == "cgroup" && m.options["memory"] || version == 2 && m.kind == "cgroup2" {
				return cgroupDir{version: version, path: group, mount: m.at, dir: path.Join(m.at, below(group, m.root))}, true
			}
		}
	}
	return cgroupDir{}, false
}

// below returns group relative to a mount's root. A group outside the root, as
// containers can see it, counts as the root.
func below(group, root string) string {
	if root == "/" {
		if strings.HasPrefix(group, "/..") {
			return ""
		}
		return group
	}
	if rest, ok := strings.CutPrefix(group, root); ok && (rest == "" || rest[0] == '/') {
		return rest
	}
	return ""
}

// names of the files that say the same in both versions, and of the line in
// memory.stat that has reclaimable file cache, descendants included.
var cgroupFiles = map[int]struct{ limit, usage, peak, events, cache string }{
	1: {"memory.limit_in_bytes", "memory.usage_in_bytes", "memory.max_usage_in_bytes", "memory.oom_control", "total_inactive_file"},
	2: {"memory.max", "memory.current", "memory.peak", "memory.events", "inactive_file"},
}

func (p procfs) readCgroup(g cgroupDir) *Cgroup {
	files := cgroupFiles[g.version]
	limit, limitDir := p.tightest(g, files.limit)
	out := &Cgroup{Version: g.version, Path: g.path, LimitBytes: limit}
	if g.version == 2 {
		out.HighBytes, _ = p.tightest(g, "memory.high")
	} else {
		out.HighBytes = Unknown[int64]("cgroup version 1 has none", "")
		// A container may not see the ancestors that limit it, but the kernel
		// tells the result.
		source := path.Join(g.dir, "memory.stat")
		stat, _ := fileMap(p, source, parseVmstat)
		if n, ok := stat["hierarchical_memory_limit"]; ok && n < unlimited && n < limit.Or(unlimited) {
			out.LimitBytes = Known(n, source+" hierarchical_memory_limit")
		}
	}
	// Usage counts in the group whose limit is in force.
	out.UsageBytes = p.cgroupUsage(limitDir, files.usage, files.cache)
	out.PeakBytes = textValue(p, path.Join(limitDir, files.peak), parseCgroupBytes)

	source := path.Join(g.dir, files.events)
	events, err := fileMap(p, source, parseVmstat)
	kills := mapValue(events, err, "oom_kill", source)
	if n, ok := kills.Get(); ok {
		out.OOMKills = Known(uint64(n), kills.Source())
	} else {
		out.OOMKills = Unknown[uint64](kills.Reason(), kills.Source())
	}
	return out
}

// cgroupUsage returns what a group uses without the file cache that the kernel
// takes back before it kills anything. Weights that were read once are such
// cache; counted as used, they would leave no room for a training.
func (p procfs) cgroupUsage(dir, usage, cache string) Value[int64] {
	used := textValue(p, path.Join(dir, usage), parseCgroupBytes)
	n, ok := used.Get()
	if !ok {
		return used
	}
	stat, err := fileMap(p, path.Join(dir, "memory.stat"), parseVmstat)
	if err != nil {
		return Known(n, fmt.Sprintf("%s (with file cache: memory.stat %v)", used.Source(), err))
	}
	inactive, ok := stat[cache]
	if !ok {
		return Known(n, fmt.Sprintf("%s (with file cache: memory.stat has no %s)", used.Source(), cache))
	}
	return Known(max(n-inactive, 0), fmt.Sprintf("%s (without %s of memory.stat)", used.Source(), cache))
}

// tightest returns the smallest value of a limit among a group and its
// ancestors, and the directory that has it.
func (p procfs) tightest(g cgroupDir, file string) (Value[int64], string) {
	lowest, lowestDir := Unknown[int64]("no limit", path.Join(g.dir, file)), g.dir
	for dir := g.dir; ; dir = path.Dir(dir) {
		source := path.Join(dir, file)
		text, err := fs.ReadFile(p.root, strings.TrimPrefix(source, "/"))
		n, ok := parseCgroupBytes(string(text))
		switch {
		case err == nil && !ok:
			return Unknown[int64](fmt.Sprintf("its text %.40q is not understood", text), source), g.dir
		case err == nil && n < unlimited && n < lowest.Or(unlimited):
			lowest, lowestDir = Known(n, source), dir
		case err != nil && !errors.Is(err, fs.ErrNotExist):
			return Unknown[int64](fileProblem(err).Error(), source), g.dir
		}
		if dir == g.mount || dir == "/" || dir == "." {
			return lowest, lowestDir
		}
	}
}

// unlimited stands for "no limit": version 2 writes "max", version 1 the
// largest number of whole pages.
const unlimited = 1 << 62

func parseCgroupBytes(text string) (int64, bool) {
	text = strings.TrimSpace(text)
	if text == "max" {
		return unlimited, true
	}
	n, err := strconv.ParseUint(text, 10, 64)
	return int64(min(n, unlimited)), err == nil
}

// parseCgroups decodes /proc/self/cgroup into the path by controller; the
// unified hierarchy has the controller "".
func parseCgroups(text string) map[string]string {
	out := map[string]string{}
	for line := range strings.Lines(text) {
		parts := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		if len(parts) != 3 || !strings.HasPrefix(parts[2], "/") {
			continue
		}
		for controller := range strings.SplitSeq(parts[1], ",") {
			out[controller] = parts[2]
		}
	}
	return out
}

// mount is one line of /proc/self/mountinfo.
type mount struct {
	root, at, kind string
	options        map[string]bool
}

func parseMounts(text string) []mount {
	var out []mount
	for line := range strings.Lines(text) {
		before, after, ok := strings.Cut(line, " - ")
		left, right := strings.Fields(before), strings.Fields(after)
		if !ok || len(left) < 5 || len(right) < 3 {
			continue
		}
		m := mount{root: unescapeMount(left[3]), at: path.Clean(unescapeMount(left[4])), kind: right[0], options: map[string]bool{}}
		for o := range strings.SplitSeq(right[2], ",") {
			m.options[o] = true
		}
		out = append(out, m)
	}
	return out
}

// unescapeMount decodes the octal escapes that mountinfo uses for spaces.
func unescapeMount(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
