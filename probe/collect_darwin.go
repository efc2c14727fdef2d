package probe

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"time"
	"unsafe"

	"github.com/ebitengine/purego"
	"golang.org/x/sys/unix"
)

func platformReaders(r Request) []reader {
	return append(apple{
		get: func(name string) ([]byte, error) { return unix.SysctlRaw(name) }, run: output,
		processes: func() ([]Process, bool) { return readProcesses(r.TopProcesses) },
		vm:        readVMStatistics, thermal: readThermal, top: r.TopProcesses, slow: r.Slow,
	}.readers(), crashReader("DiagnosticReports", func(now time.Time) ([]Crash, error) {
		names := []string{"/Library/Logs/DiagnosticReports"}
		if home, err := os.UserHomeDir(); err == nil {
			names = append(names, filepath.Join(home, "Library/Logs/DiagnosticReports"))
		}
		var dirs []fs.FS
		for _, n := range names {
			dirs = append(dirs, os.DirFS(n))
		}
		return crashReports(dirs, names, now)
	}))
}

func gpuKind() string {
	if runtime.GOARCH == "arm64" {
		return "metal"
	}
	return "none"
}

// systemCall binds a function of the system's library, which is always loaded.
func systemCall(name string, function any) error {
	lib, err := purego.Dlopen("/usr/lib/libSystem.B.dylib", purego.RTLD_LAZY)
	if err != nil {
		return err
	}
	symbol, err := purego.Dlsym(lib, name)
	if err != nil {
		return err
	}
	purego.RegisterFunc(function, symbol)
	return nil
}

// readProcesses lists this user's n processes with the largest footprints. The
// system tells no other user's: left says whether there were some.
func readProcesses(n int) (own []Process, left bool) {
	if n <= 0 {
		return nil, false
	}
	all, err := unix.SysctlKinfoProcSlice("kern.proc.all")
	if err != nil {
		return nil, true
	}
	var rusage func(pid, flavor int32, buffer unsafe.Pointer) int32
	if err := systemCall("proc_pid_rusage", &rusage); err != nil {
		return nil, true
	}

	const flavorV4 = 4 // RUSAGE_INFO_V4
	for _, p := range all {
		buffer := make([]byte, rusageV4Bytes)
		pid := p.Proc.P_pid
		if rusage(pid, flavorV4, unsafe.Pointer(&buffer[0])) != 0 {
			left = true // another user's, or ended
			continue
		}
		q := Process{PID: pid, Name: unix.ByteSliceToString(p.Proc.P_comm[:])}
		q.ResidentBytes, q.FootprintBytes = decodeRusage(buffer)
		own = append(own, q)
	}
	return largest(own, n, func(q Process) int64 { return q.FootprintBytes.Or(0) }), left
}

// readVMStatistics returns the kernel's struct vm_statistics64.
func readVMStatistics() ([]byte, error) {
	var self func() uint32
	var statistics func(host uint32, flavor int32, info unsafe.Pointer, count *uint32) int32
	if err := errors.Join(systemCall("mach_host_self", &self), systemCall("host_statistics64", &statistics)); err != nil {
		return nil, err
	}
	const flavor = 4 // HOST_VM_INFO64
	buffer := make([]byte, 1024)
	count := uint32(len(buffer) / 4) // in natural_t
	if code := statistics(self(), flavor, unsafe.Pointer(&buffer[0]), &count); code != 0 {
		return nil, fmt.Errorf("host_statistics64: code %d", code)
	}
	return buffer[:min(int(count)*4, len(buffer))], nil
}

// readThermal returns the state of the notification that the system posts when
// thermal pressure changes.
func readThermal() (uint64, error) {
	var register func(name string, token *int32) uint32
	var state func(token int32, state *uint64) uint32
	var cancel func(token int32) uint32
	if err := errors.Join(systemCall("notify_register_check", &register), systemCall("notify_get_state", &state), systemCall("notify_cancel", &cancel)); err != nil {
		return 0, err
	}
	var token int32
	if code := register("com.apple.system.thermalpressurelevel", &token); code != 0 {
		return 0, fmt.Errorf("notify_register_check: code %d", code)
	}
	defer cancel(token)
	var level uint64
	if code := state(token, &level); code != 0 {
		return 0, fmt.Errorf("notify_get_state: code %d", code)
	}
	return level, nil
}
