package command

import (
	"bytes"
	"os"
	"strconv"
)

// processes reads the system's table of processes.
func processes() ([]process, error) {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	var out []process
	for _, name := range names {
		if name[0] < '0' || name[0] > '9' {
			continue
		}
		stat, err := os.ReadFile("/proc/" + name + "/stat")
		if err != nil {
			continue // it has ended
		}
		if p, ok := parseStat(stat); ok {
			out = append(out, p)
		}
	}
	return out, nil
}

// parseStat reads /proc/PID/stat, whose second field is a name in parentheses
// that may hold any character.
func parseStat(b []byte) (process, bool) {
	open, end := bytes.IndexByte(b, '('), bytes.LastIndexByte(b, ')')
	if open < 1 || end < open {
		return process{}, false
	}
	f := bytes.Fields(b[end+1:])
	const state, parent, session, start = 0, 1, 3, 19
	if len(f) <= start {
		return process{}, false
	}
	number := func(b []byte) int {
		n, err := strconv.Atoi(string(b))
		if err != nil {
			return -1
		}
		return n
	}
	p := process{pid: number(bytes.TrimSpace(b[:open])), parent: number(f[parent]), session: number(f[session]), start: int64(number(f[start]))}
	p.gone = f[state][0] == 'Z' || f[state][0] == 'X'
	return p, p.pid > 0 && p.parent >= 0 && p.session >= 0 && p.start >= 0
}

// inherits reports whether the environment that a process was started with
// holds marker.
func inherits(pid int, marker []byte) bool {
	env, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/environ")
	return err == nil && bytes.Contains(env, marker)
}
