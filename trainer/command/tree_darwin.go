package command

import (
	"bytes"

	"golang.org/x/sys/unix"
)

// processes reads the system's table of processes.
func processes() ([]process, error) {
	all, err := unix.SysctlKinfoProcSlice("kern.proc.all")
	if err != nil {
		return nil, err
	}
	const zombie = 5 // SZOMB of sys/proc.h
	out := make([]process, 0, len(all))
	for _, k := range all {
		p := process{
			pid: int(k.Proc.P_pid), parent: int(k.Eproc.Ppid), gone: k.Proc.P_stat == zombie,
			start: k.Proc.P_starttime.Sec*1e6 + int64(k.Proc.P_starttime.Usec),
		}
		if p.pid <= 0 {
			continue
		}
		// The table hides sessions from users.
		p.session, _ = unix.Getsid(p.pid)
		out = append(out, p)
	}
	return out, nil
}

// inherits reports whether the environment that a process was started with
// holds marker.
func inherits(pid int, marker []byte) bool {
	args, err := unix.SysctlRaw("kern.procargs2", pid)
	return err == nil && bytes.Contains(args, marker)
}
