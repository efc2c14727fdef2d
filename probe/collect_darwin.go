package probe

import (
	"runtime"
	"unsafe"

	"github.com/ebitengine/purego"
	"golang.org/x/sys/unix"
)

func platformReaders(r Request) []reader {
	get := func(name string) ([]byte, error) { return unix.SysctlRaw(name) }
	return appleReaders(get, output, func() []Process { return readProcesses(r.TopProcesses) })
}

func gpuKind() string {
	if runtime.GOARCH == "arm64" {
		return "metal"
	}
	return "none"
}

// readProcesses lists the n processes with the largest footprints. The system
// tells the memory of this user's processes only, so that others are left out.
func readProcesses(n int) []Process {
	if n <= 0 {
		return nil
	}
	all, err := unix.SysctlKinfoProcSlice("kern.proc.all")
	if err != nil {
		return nil
	}
	lib, err := purego.Dlopen("/usr/lib/libSystem.B.dylib", purego.RTLD_LAZY)
	if err != nil {
		return nil
	}
	symbol, err := purego.Dlsym(lib, "proc_pid_rusage")
	if err != nil {
		return nil
	}
	var rusage func(pid, flavor int32, buffer unsafe.Pointer) int32
	purego.RegisterFunc(&rusage, symbol)

	const flavorV4 = 4 // RUSAGE_INFO_V4
	var out []Process
	for _, p := range all {
		buffer := make([]byte, rusageV4Bytes)
		pid := p.Proc.P_pid
		if rusage(pid, flavorV4, unsafe.Pointer(&buffer[0])) != 0 {
			continue // another user's, or ended
		}
		q := Process{PID: pid, Name: unix.ByteSliceToString(p.Proc.P_comm[:])}
		q.ResidentBytes, q.FootprintBytes = decodeRusage(buffer)
		out = append(out, q)
	}
	return largest(out, n, func(q Process) int64 { return q.FootprintBytes.Or(0) })
}
