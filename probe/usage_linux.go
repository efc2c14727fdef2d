package probe

func platformUsage(pid int) Usage { return live().usage(pid) }
