package probe

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

func platformReaders(r Request) []reader {
	p := procfs{root: os.DirFS("/"), pageBytes: int64(os.Getpagesize()), nvml: func() (nvmlReading, error) { return readNVML(nvmlLibrary) }}
	return append(linuxReaders(p, output, r), crashReader(kernelLog, func(now time.Time) ([]Crash, error) {
		text, err := readKernelLog()
		if err != nil {
			return nil, err
		}
		var booted time.Time
		if seconds, ok := textValue(p, "/proc/uptime", firstFloat).Get(); ok {
			booted = now.Add(-time.Duration(seconds * float64(time.Second)))
		}
		return parseKernelLog(text, booted), nil
	}))
}

const (
	kernelLog      = "/dev/kmsg"
	kernelLogBytes = 16 << 20
)

// readKernelLog returns the kernel's records as far as it keeps them. Not
// everybody may.
func readKernelLog() (string, error) {
	fd, err := unix.Open(kernelLog, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", fmt.Errorf("the kernel's log cannot be read: %w", err)
	}
	defer unix.Close(fd)
	var out bytes.Buffer
	record := make([]byte, 16<<10) // each read is one record
	for out.Len() < kernelLogBytes {
		switch n, err := unix.Read(fd, record); {
		case errors.Is(err, unix.EPIPE) || errors.Is(err, unix.EINTR):
			// overwritten meanwhile: the next read is the next that is there
		case errors.Is(err, unix.EAGAIN):
			return out.String(), nil
		case err != nil:
			return "", fmt.Errorf("the kernel's log cannot be read: %w", err)
		case n == 0:
			return out.String(), nil
		default:
			out.Write(record[:n])
		}
	}
	return out.String(), nil
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
