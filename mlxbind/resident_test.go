package mlxbind

import (
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"
)

// residentBytes is what this process occupies.
func residentBytes(t *testing.T) int64 {
	t.Helper()
	runtime.GC()
	debug.FreeOSMemory()
	var text []byte
	var err error
	field, unit := 0, 1024
	if runtime.GOOS == "linux" {
		field, unit = 1, os.Getpagesize()
		text, err = os.ReadFile("/proc/self/statm")
	} else {
		text, err = exec.Command("ps", "-o", "rss=", "-p", strconv.Itoa(os.Getpid())).Output()
	}
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.ParseInt(strings.Fields(string(text))[field], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n * int64(unit)
}
