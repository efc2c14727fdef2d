package probe

import "os"

func platformUsage(pid int) Usage {
	return procfs{root: os.DirFS("/"), pageBytes: int64(os.Getpagesize())}.usage(pid)
}
