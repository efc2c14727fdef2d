//go:build !linux && !darwin

package probe

func platformUsage(pid int) Usage {
	u := Usage{PID: pid}
	u.unknown("cannot be read on this system", "")
	return u
}
