package probe

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"time"
	"unsafe"

	"github.com/ebitengine/purego"
	"golang.org/x/sys/unix"
)

// libproc holds the two calls that tell what a process uses; nil where the
// system has none.
type libproc struct {
	rusage func(pid, flavor int32, buffer unsafe.Pointer) int32
	info   func(pid, flavor int32, arg uint64, buffer unsafe.Pointer, size int32) int32
}

var theLibproc = sync.OnceValue(func() libproc {
	var l libproc
	lib, err := purego.Dlopen("/usr/lib/libSystem.B.dylib", purego.RTLD_LAZY)
	if err != nil {
		return l
	}
	if f, err := purego.Dlsym(lib, "proc_pid_rusage"); err == nil {
		purego.RegisterFunc(&l.rusage, f)
	}
	if f, err := purego.Dlsym(lib, "proc_pidinfo"); err == nil {
		purego.RegisterFunc(&l.info, f)
	}
	return l
})

func platformUsage(pid int) Usage {
	u := Usage{PID: pid}
	if err := unix.Kill(pid, 0); errors.Is(err, unix.ESRCH) {
		u.Ended = true
		u.unknown("the process has ended", "kill 0")
		return u
	}
	u.unknown("the system does not tell it", "proc_pid_rusage")
	if k, err := unix.SysctlKinfoProc("kern.proc.pid", pid); err == nil {
		const zombie = 5 // SZOMB of sys/proc.h
		u.Ended = k.Proc.P_stat == zombie
		u.Name = Known(unix.ByteSliceToString(k.Proc.P_comm[:]), "sysctl kern.proc.pid")
		u.StartedAt = Known(k.Proc.P_starttime.Sec*1e6+int64(k.Proc.P_starttime.Usec), "sysctl kern.proc.pid")
	}
	const rusageV4, taskInfo = 4, 4 // RUSAGE_INFO_V4, PROC_PIDTASKINFO
	calls := theLibproc()
	buffer := make([]byte, 1024)
	if calls.rusage != nil && calls.rusage(int32(pid), rusageV4, unsafe.Pointer(&buffer[0])) == 0 {
		u.Resident, u.Footprint = decodeRusage(buffer[:rusageV4Bytes])
		u.CPU = decodeRusageCPU(buffer[:rusageV4Bytes])
	} else {
		u.Footprint = topFootprint(pid)
	}
	task := make([]byte, taskInfoBytes)
	if calls.info != nil && calls.info(int32(pid), taskInfo, 0, unsafe.Pointer(&task[0]), taskInfoBytes) == taskInfoBytes {
		u.Threads = decodeTaskThreads(task)
	}
	return u
}

// topFootprint asks top, which may look at processes of other users.
func topFootprint(pid int) Value[int64] {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return printed(ctx, output, parseTopMemory, "/usr/bin/top", "-l", "1", "-pid", strconv.Itoa(pid), "-stats", "pid,mem")
}
