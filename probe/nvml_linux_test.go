package probe

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// standIn is a library with the calls of NVIDIA's that are used, by the
// signatures of its header.
const standIn = `
#include <string.h>
typedef struct { unsigned long long total, free, used; } memory_t;
typedef struct { unsigned int gpu, memory; } utilization_t;
static int started, handle;
int nvmlInit_v2(void) { return started++; }
int nvmlShutdown(void) { started = 0; return 0; }
int nvmlSystemGetDriverVersion(char *text, unsigned int n) { strncpy(text, "580.159.04", n); return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned int i, void **device) { *device = &handle; return i == 0 && FAIL != 2 ? 0 : 6; }
int nvmlDeviceGetName(void *device, char *text, unsigned int n) { strncpy(text, device == &handle ? "NVIDIA H100" : "?", n); return 0; }
int nvmlDeviceGetMemoryInfo(void *device, memory_t *m) { m->total = 85520809984ULL; m->free = 1; m->used = 2147483648ULL; return device == &handle ? 0 : 2; }
int nvmlDeviceGetUtilizationRates(void *device, utilization_t *u) { u->gpu = 97; u->memory = 3; return FAIL == 1 ? 3 : 0; }
#if FAIL != 3
int nvmlDeviceGetCurrentClocksThrottleReasons(void *device, unsigned long long *r) { *r = 0x40; return 0; }
#endif
`

func standInLibrary(t *testing.T, fail string) string {
	t.Helper()
	dir := t.TempDir()
	source, library := filepath.Join(dir, "nvml.c"), filepath.Join(dir, "libnvidia-ml.so."+fail)
	if err := os.WriteFile(source, []byte(standIn), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), "cc", "-shared", "-fPIC", "-DFAIL="+fail, "-o", library, source).CombinedOutput(); err != nil {
		t.Fatalf("compile the stand-in, which takes a C compiler as setup does: %v: %s", err, out)
	}
	return library
}

func TestReadNVML(t *testing.T) {
	whole := nvmlReading{Name: "NVIDIA H100", Driver: "580.159.04", Total: 85520809984, Used: 2147483648, Busy: 97, BusyKnown: true, Reasons: 0x40, ReasonsKnown: true}
	library := standInLibrary(t, "0")
	for range 2 { // it is shut down in between
		if r, err := readNVML(library); err != nil || r != whole {
			t.Errorf("%+v, %v", r, err)
		}
	}
	r, err := readNVML(standInLibrary(t, "1"))
	if err != nil || r.BusyKnown || r.Name != whole.Name {
		t.Errorf("a call that is not supported: %+v, %v", r, err)
	}
	for fail, want := range map[string]string{"2": "nvmlDeviceGetHandleByIndex: code 6", "3": "nvmlDeviceGetCurrentClocksThrottleReasons"} {
		if _, err := readNVML(standInLibrary(t, fail)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
	if _, err := readNVML(filepath.Join(t.TempDir(), "libnvidia-ml.so.1")); err == nil {
		t.Error("a library that is not there was read")
	}
}
