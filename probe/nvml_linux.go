package probe

import (
	"errors"
	"fmt"
	"unsafe"

	"github.com/ebitengine/purego"
	"golang.org/x/sys/unix"
)

const nvmlLibrary = "libnvidia-ml.so.1"

// readNVML asks NVIDIA's library, without cgo. It takes a fraction of the time
// of nvidia-smi.
func readNVML(library string) (nvmlReading, error) {
	var r nvmlReading
	lib, err := purego.Dlopen(library, purego.RTLD_LAZY|purego.RTLD_LOCAL)
	if err != nil {
		return r, err
	}
	var missing error
	bind := func(function any, name string) {
		symbol, err := purego.Dlsym(lib, name)
		if err != nil {
			missing = errors.Join(missing, err)
			return
		}
		purego.RegisterFunc(function, symbol)
	}
	var (
		start, stop func() int32
		driver      func(text unsafe.Pointer, length uint32) int32
		device      func(index uint32, handle *uintptr) int32
		name        func(device uintptr, text unsafe.Pointer, length uint32) int32
		memory      func(device uintptr, into *[3]uint64) int32 // total, free, used
		busy        func(device uintptr, into *[2]uint32) int32 // of the GPU, of its memory
		reasons     func(device uintptr, into *uint64) int32
	)
	bind(&start, "nvmlInit_v2")
	bind(&stop, "nvmlShutdown")
	bind(&driver, "nvmlSystemGetDriverVersion")
	bind(&device, "nvmlDeviceGetHandleByIndex_v2")
	bind(&name, "nvmlDeviceGetName")
	bind(&memory, "nvmlDeviceGetMemoryInfo")
	bind(&busy, "nvmlDeviceGetUtilizationRates")
	bind(&reasons, "nvmlDeviceGetCurrentClocksThrottleReasons")
	if missing != nil {
		return r, missing
	}
	if code := start(); code != 0 {
		return r, fmt.Errorf("nvmlInit: code %d", code)
	}
	defer stop()
	var first uintptr
	if code := device(0, &first); code != 0 {
		return r, fmt.Errorf("nvmlDeviceGetHandleByIndex: code %d", code)
	}
	text := make([]byte, 96)
	if driver(unsafe.Pointer(&text[0]), uint32(len(text))) == 0 {
		r.Driver = unix.ByteSliceToString(text)
	}
	clear(text)
	if name(first, unsafe.Pointer(&text[0]), uint32(len(text))) == 0 {
		r.Name = unix.ByteSliceToString(text)
	}
	var bytes [3]uint64
	if code := memory(first, &bytes); code != 0 {
		return r, fmt.Errorf("nvmlDeviceGetMemoryInfo: code %d", code)
	}
	r.Total, r.Used = bytes[0], bytes[2]
	var share [2]uint32
	r.BusyKnown = busy(first, &share) == 0
	r.Busy = share[0]
	r.ReasonsKnown = reasons(first, &r.Reasons) == 0
	return r, nil
}
