package native

import (
	"encoding/binary"
	"os"
	"sync"
	"unsafe"

	"github.com/ebitengine/purego"
)

// rusageInfoV4 and the place of ri_phys_footprint in its answer, from
// sys/resource.h.
const (
	rusageInfoV4    = 4
	footprintOffset = 72
)

var procPIDRusage = sync.OnceValue(func() uintptr {
	lib, err := purego.Dlopen("/usr/lib/libSystem.B.dylib", purego.RTLD_NOW)
	if err != nil {
		return 0
	}
	f, _ := purego.Dlsym(lib, "proc_pid_rusage")
	return f
})

// footprint is phys_footprint: what macOS charges the process with.
func footprint() (int64, bool) {
	f := procPIDRusage()
	if f == 0 {
		return 0, false
	}
	buf := make([]byte, 1024)
	r, _, _ := purego.SyscallN(f, uintptr(os.Getpid()), rusageInfoV4, uintptr(unsafe.Pointer(&buf[0])))
	if int32(r) != 0 {
		return 0, false
	}
	return int64(binary.LittleEndian.Uint64(buf[footprintOffset:])), true
}
