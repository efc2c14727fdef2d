package worker

import (
	"bufio"
	"bytes"
	"fmt"
	"io/fs"
	"path"
	"strconv"
	"strings"

	"github.com/mlxdyno/mlxdyno/trainer"
)

// kills counts the processes that the kernel has killed for want of memory: in
// our control group, which a worker inherits, and on the whole machine.
type kills struct {
	group, machine         trainer.Opt[int64]
	groupFile, machineFile string
}

// inGroup is evidence that a process of our group was killed since before.
func (k kills) inGroup(before kills) []trainer.Evidence {
	return rise(before.group, k.group, "of our control group", k.groupFile)
}

// onMachine is evidence that some process was, which may have been anybody's.
func (k kills) onMachine(before kills) []trainer.Evidence {
	return rise(before.machine, k.machine, "of the whole machine", k.machineFile)
}

func rise(before, after trainer.Opt[int64], whose, file string) []trainer.Evidence {
	b, ok := before.Get()
	a, ok2 := after.Get()
	if !ok || !ok2 || a <= b {
		return nil
	}
	return []trainer.Evidence{{Name: "oom_kill", Observed: fmt.Sprintf("that %s rose from %d to %d", whose, b, a), Source: file}}
}

// known reports whether any counter could be read.
func (k kills) known() bool { return k.group.Known() || k.machine.Known() }

// killsIn reads the counters of a Linux system whose root is fsys.
func killsIn(fsys fs.FS) kills {
	k := kills{machineFile: "/proc/vmstat"}
	k.machine = counter(fsys, "proc/vmstat")
	for _, file := range groupFiles(fsys) {
		if k.group = counter(fsys, file); k.group.Known() {
			k.groupFile = "/" + file
			break
		}
	}
	return k
}

// groupFiles returns where our group's counter may be: version 2 first. In a
// container the group's path may not exist below the mount, whose root is then
// the group itself.
func groupFiles(fsys fs.FS) []string {
	groups, err := fs.ReadFile(fsys, "proc/self/cgroup")
	if err != nil {
		return nil
	}
	var v1, v2 []string
	for line := range strings.Lines(string(groups)) {
		part := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(part) != 3 {
			continue
		}
		for _, m := range groupMounts(fsys) {
			within := strings.TrimPrefix(part[2], strings.TrimSuffix(m.root, "/"))
			switch {
			case m.version == 2 && part[1] == "":
				v2 = append(v2, below(m.point, within, "memory.events"), below(m.point, "", "memory.events"))
			case m.version == 1 && hasWord(part[1], "memory"):
				v1 = append(v1, below(m.point, within, "memory.oom_control"), below(m.point, "", "memory.oom_control"))
			}
		}
	}
	return append(v2, v1...)
}

func below(point, group, file string) string {
	return strings.TrimPrefix(path.Join("/", point, group, file), "/")
}

func hasWord(list, word string) bool {
	return strings.Contains(","+list+",", ","+word+",")
}

type groupMount struct {
	version     int
	root, point string
}

// groupMounts reads the lines of mountinfo, whose fields are
// "id parent device root point options… - type source super-options".
func groupMounts(fsys fs.FS) []groupMount {
	b, err := fs.ReadFile(fsys, "proc/self/mountinfo")
	if err != nil {
		return nil
	}
	var out []groupMount
	for line := range strings.Lines(string(b)) {
		head, tail, ok := strings.Cut(line, " - ")
		f, t := strings.Fields(head), strings.Fields(tail)
		if !ok || len(f) < 5 || len(t) < 3 {
			continue
		}
		switch {
		case t[0] == "cgroup2":
			out = append(out, groupMount{version: 2, root: f[3], point: f[4]})
		case t[0] == "cgroup" && hasWord(t[2], "memory"):
			out = append(out, groupMount{version: 1, root: f[3], point: f[4]})
		}
	}
	return out
}

// counter reads the line "oom_kill N" of a file.
func counter(fsys fs.FS, name string) trainer.Opt[int64] {
	b, err := fs.ReadFile(fsys, name)
	if err != nil {
		return trainer.Opt[int64]{}
	}
	lines := bufio.NewScanner(bytes.NewReader(b))
	for lines.Scan() {
		if rest, ok := strings.CutPrefix(lines.Text(), "oom_kill "); ok {
			if n, err := strconv.ParseInt(strings.TrimSpace(rest), 10, 64); err == nil {
				return trainer.Some(n)
			}
		}
	}
	return trainer.Opt[int64]{}
}
