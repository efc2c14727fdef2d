package probe

import "os"

func platformReaders(r Request) []reader {
	p := procfs{root: os.DirFS("/"), pageBytes: int64(os.Getpagesize())}
	return linuxReaders(p, output, r)
}

// gpuKind looks for NVIDIA's kernel driver, and on WSL for its device.
func gpuKind() string {
	for _, path := range []string{"/proc/driver/nvidia/version", "/dev/nvidiactl", "/dev/dxg"} {
		if _, err := os.Stat(path); err == nil {
			return "cuda"
		}
	}
	return "none"
}
