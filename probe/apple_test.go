package probe

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"testing"
	"time"
)

// show is a value, or the reason that there is none.
func show[T any](v Value[T]) string {
	if x, ok := v.Get(); ok {
		return fmt.Sprint(x)
	}
	return v.Reason()
}

func u32(n uint32) []byte { return binary.LittleEndian.AppendUint32(nil, n) }
func u64(n uint64) []byte { return binary.LittleEndian.AppendUint64(nil, n) }

func sysctls(values map[string][]byte) sysctl {
	return func(name string) ([]byte, error) {
		if raw, ok := values[name]; ok {
			return raw, nil
		}
		return nil, errors.New("no such file or directory")
	}
}

func TestSysctlValues(t *testing.T) {
	swap := func(total, available, used uint64) []byte {
		return append(append(append(u64(total), u64(available)...), u64(used)...), u64(16384)...)
	}
	for _, tc := range []struct {
		name   string
		values map[string][]byte
		read   func(sysctl) string
		want   string
	}{
		{"a number of 8 bytes", map[string][]byte{"hw.memsize": u64(1 << 36)}, func(g sysctl) string { return show(g.number("hw.memsize")) }, "68719476736"},
		{"a number of 4 bytes", map[string][]byte{"hw.pagesize": u32(16384)}, func(g sysctl) string { return show(g.number("hw.pagesize")) }, "16384"},
		{"a number of 2 bytes", map[string][]byte{"hw.pagesize": {0, 1}}, func(g sysctl) string { return show(g.number("hw.pagesize")) }, "has 2 bytes, not 4 or 8"},
		{"a number beyond int64", map[string][]byte{"hw.memsize": u64(1 << 63)}, func(g sysctl) string { return show(g.number("hw.memsize")) }, "is impossibly large"},
		{"a number that is not there", nil, func(g sysctl) string { return show(g.number("hw.memsize")) }, "no such file or directory"},
		{"an empty text", map[string][]byte{"hw.model": {0}}, func(g sysctl) string { return show(g.text("hw.model")) }, "is empty"},
		{"pressure, warned", map[string][]byte{"kern.memorystatus_vm_pressure_level": u32(2)}, func(g sysctl) string { return show(g.pressure()) }, "warn"},
		{"pressure, critical", map[string][]byte{"kern.memorystatus_vm_pressure_level": u32(4)}, func(g sysctl) string { return show(g.pressure()) }, "critical"},
		{"pressure, a level nobody knows", map[string][]byte{"kern.memorystatus_vm_pressure_level": u32(3)}, func(g sysctl) string { return show(g.pressure()) }, "is 3, not 1, 2 or 4"},
		{"swap", map[string][]byte{"vm.swapusage": swap(10, 7, 3)}, func(g sysctl) string { total, used := g.swap(); return show(total) + " " + show(used) }, "10 3"},
		{"swap, cut off", map[string][]byte{"vm.swapusage": swap(10, 7, 3)[:24]}, func(g sysctl) string { _, used := g.swap(); return show(used) }, "has 24 bytes, not 32"},
		{"wired limit", map[string][]byte{"iogpu.wired_limit_mb": u32(8192)}, func(g sysctl) string { return show(g.wiredLimit()) }, "8589934592"},
		{"wired limit, the default", map[string][]byte{"iogpu.wired_limit_mb": u32(0)}, func(g sysctl) string { return show(g.wiredLimit()) }, "0"},
		{"wired limit, older system's default", map[string][]byte{"debug.iogpu.wired_limit": u32(0)}, func(g sysctl) string { return show(g.wiredLimit()) }, "0"},
		{"wired limit, older system's", map[string][]byte{"debug.iogpu.wired_limit": u32(9)}, func(g sysctl) string { return show(g.wiredLimit()) }, "is 9 in a unit that is not documented"},
		{"wired limit, nowhere", nil, func(g sysctl) string { return show(g.wiredLimit()) }, "no such file or directory"},
		{"uptime", map[string][]byte{"kern.boottime": append(u64(1000), u64(0)...)}, func(g sysctl) string { return show(g.uptime(time.Unix(1500, 0))) }, "500"},
		{"uptime, clock set back", map[string][]byte{"kern.boottime": append(u64(1000), u64(0)...)}, func(g sysctl) string { return show(g.uptime(time.Unix(900, 0))) }, "the system says it started after now"},
		{"load with scale 0", map[string][]byte{"vm.loadavg": make([]byte, 24)}, func(g sysctl) string { return show(g.load1()) }, "has the scale 0"},
		{"free percentage out of range", map[string][]byte{"kern.memorystatus_level": u32(101)}, func(g sysctl) string { var s Snapshot; g.memory(&s); return show(s.Memory.FreePercent) }, "is 101, which is no percentage"},
		{"resource limit of the system", map[string][]byte{"iogpu.rsrc_limit": u32(1000)}, func(g sysctl) string { var s Snapshot; g.gpu(&s); return show(s.GPU.ResourceLimit) }, "1000"},
		{"resource limit of MLX", nil, func(g sysctl) string { var s Snapshot; g.gpu(&s); return show(s.GPU.ResourceLimit) }, "499000"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := tc.read(sysctls(tc.values)); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

func TestRusageTooShort(t *testing.T) {
	resident, footprint := decodeRusage(make([]byte, 295))
	if resident.Known() || footprint.Reason() != "has 295 bytes, not 296" {
		t.Errorf("got %s, %s", show(resident), show(footprint))
	}
}

func TestVMStat(t *testing.T) {
	for _, tc := range []struct{ name, text, available, wired string }{
		{"pages of 4096", "Mach Virtual Memory Statistics: (page size of 4096 bytes)\nPages free: 1.\nPages purgeable: 2.\nFile-backed pages: 3.\nPages wired down:   5.\n", "24576", "20480"},
		{"pages of 16384", "Mach Virtual Memory Statistics: (page size of 16384 bytes)\nPages free: 1.\nPages purgeable: 2.\nFile-backed pages: 3.\nPages wired down:   5.\n", "98304", "81920"},
		{"no page size", "Mach Virtual Memory Statistics:\nPages free: 1.\n", "its first line names no page size", "its first line names no page size"},
		{"page size 0", "(page size of 0 bytes)\nPages wired down: 1.\n", "its first line names no page size", "its first line names no page size"},
		{"a line is missing", "(page size of 16384 bytes)\nPages free: 1.\nPages wired down: 1.\n", `has no line "File-backed pages"`, "16384"},
		{"more than memory can be", "(page size of 16384 bytes)\nPages free: 9223372036854775807.\nFile-backed pages: 9223372036854775807.\nPages purgeable: 1.\n", "is impossibly large", `has no line "Pages wired down"`},
		{"nothing", "", "its first line names no page size", "its first line names no page size"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var s Snapshot
			decodeVMStat(tc.text, &s)
			if got := show(s.Memory.AvailableBytes); got != tc.available {
				t.Errorf("available %q, want %q", got, tc.available)
			}
			if got := show(s.Memory.WiredBytes); got != tc.wired {
				t.Errorf("wired %q, want %q", got, tc.wired)
			}
		})
	}
}

func TestPowerMode(t *testing.T) {
	for _, tc := range []struct{ name, text, want string }{
		{"low, a Mac without a high mode", "Currently in use:\n lowpowermode         1\n", "low"},
		{"normal, a Mac without a high mode", "Currently in use:\n lowpowermode         0\n", "normal"},
		{"high", "Currently in use:\n powermode            2\n", "high"},
		{"powermode decides", " lowpowermode 0\n powermode 1\n", "low"},
		{"a mode nobody knows", " powermode 7\n", "names no power mode"},
		{"nothing", "", "names no power mode"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := show(parsePowerMode(tc.text)); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

func TestUtilization(t *testing.T) {
	for text, want := range map[string]string{
		`"Device Utilization %"=0,`:     "0",
		`{"Device Utilization %"=100}`:  "100",
		`{"Device Utilization %"=101}`:  "its device utilization is no percentage",
		`{"Device Utilization %"=}`:     "its device utilization is no percentage",
		`{"Renderer Utilization %"=12}`: "names no device utilization",
	} {
		if got := show(parseUtilization(text)); got != want {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
}

func vmStatistics(counts map[int]uint32) []byte {
	raw := make([]byte, 152)
	for at, n := range counts {
		binary.LittleEndian.PutUint32(raw[at:], n)
	}
	return raw
}

func TestVMStatistics(t *testing.T) {
	full := map[int]uint32{vmFreeAt: 100, vmSpeculativeAt: 30, vmWiredAt: 7, vmPurgeableAt: 4, vmExternalAt: 50, vmCompressorAt: 6, vmSwapInsAt: 2, vmSwapOutsAt: 3}
	var s Snapshot
	if err := decodeVMStatistics(vmStatistics(full), 1<<30, 16384, &s); err != nil {
		t.Fatal(err)
	}
	for name, got := range map[string]string{
		"available 124": show(s.Memory.AvailableBytes), "wired 7": show(s.Memory.WiredBytes), "compressed 6": show(s.Memory.CompressedBytes),
		"in 2": show(s.Swap.InBytes), "out 3": show(s.Swap.OutBytes),
	} {
		n, _ := strconv.Atoi(strings.Fields(name)[1])
		if got != strconv.Itoa(n*16384) {
			t.Errorf("%s pages: %s bytes", name, got)
		}
	}
	for name, tc := range map[string]struct {
		raw         []byte
		total, page int64
	}{
		"cut off":                        {vmStatistics(full)[:143], 1 << 30, 16384},
		"no page size":                   {vmStatistics(full), 1 << 30, 0},
		"more speculative than free":     {vmStatistics(map[int]uint32{vmSpeculativeAt: 1}), 1 << 30, 16384},
		"more pages than memory has":     {vmStatistics(map[int]uint32{vmFreeAt: 1 << 20}), 1 << 30, 16384},
		"a total that nobody could read": {vmStatistics(full), 0, 16384},
	} {
		var s Snapshot
		if err := decodeVMStatistics(tc.raw, tc.total, tc.page, &s); err == nil || s.Memory.WiredBytes.Known() {
			t.Errorf("%s: error %v, wired %s", name, err, show(s.Memory.WiredBytes))
		}
	}
}

// What the kernel says is taken; a struct that has changed leaves it to vm_stat.
func TestPagesFallBackOnVMStat(t *testing.T) {
	get := sysctls(map[string][]byte{"hw.memsize": u64(1 << 30), "hw.pagesize": u32(16384)})
	run := func(context.Context, string, ...string) (string, error) {
		return "Mach Virtual Memory Statistics: (page size of 16384 bytes)\nPages wired down: 9.\n", nil
	}
	for want, raw := range map[string][]byte{"114688 host_statistics64": vmStatistics(map[int]uint32{vmWiredAt: 7}), "147456 vm_stat": make([]byte, 40)} {
		var s Snapshot
		apple{get: get, run: run, vm: func() ([]byte, error) { return raw, nil }}.pages(t.Context(), &s)
		if got := show(s.Memory.WiredBytes) + " " + s.Memory.WiredBytes.Source(); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

func TestThermal(t *testing.T) {
	for text, want := range map[string]string{
		"CPU_Speed_Limit \t= 72\n":   "heavy",
		"CPU_Speed_Limit = 100\n":    "knows only the processor's speed limit, which is not in force",
		"CPU_Speed_Limit = 720\n":    "its speed limit is no percentage",
		"Note: No thermal warning\n": "knows only the processor's speed limit, which is not in force",
	} {
		if got := show(parseThermal(text)); got != want {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
	for level, want := range map[uint64]string{0: "nominal", 2: "heavy", 4: "sleeping", 5: "is 5, not 0 to 4"} {
		if got := show(decodeThermal(level)); got != want {
			t.Errorf("level %d: %s, want %s", level, got, want)
		}
	}
}

func TestClassCount(t *testing.T) {
	for text, want := range map[string]string{
		"AGXResource = 401233\n": "401233", "AGXResource = -1\n": "does not count AGXResource",
		"AGXCommandQueue = 3\n": "does not count AGXResource", "": "does not count AGXResource",
	} {
		if got := show(parseClassCount(text)); got != want {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
}

func TestTop(t *testing.T) {
	got := parseTop("Processes: 3 total\nPhysMem: 1G used\n\nPID   MEM    COMMAND\n399   2148M+ WindowServer\n0*    41M-   kernel_task\n7 x y\n8 12Q odd\n9 9999999999999T huge\n612 2G Cursor Helper (GPU)\n")
	want := "399 WindowServer 2252341248|0 kernel_task 42991616|612 Cursor Helper (GPU) 2147483648"
	var parts []string
	for _, p := range got {
		parts = append(parts, fmt.Sprint(p.PID, " ", p.Name, " ", show(p.FootprintBytes)))
	}
	if s := strings.Join(parts, "|"); s != want {
		t.Errorf("got %s", s)
	}
	if parseTop("nothing\n1 2M x\n") != nil {
		t.Error("a table without a head was read")
	}
}

func FuzzApple(f *testing.F) {
	f.Add(u64(1<<36), u32(2), "Mach Virtual Memory Statistics: (page size of 16384 bytes)\nPages free: 12.\nSwapins: 3.\n", "powermode 2\n\"Device Utilization %\"=3")
	f.Add(u64(1), vmStatistics(map[int]uint32{0: 9, 12: 5, 136: 3}), "", "PID MEM COMMAND\n7 12M+ a b\nAGXResource = 3\nCPU_Speed_Limit = 40\n")
	f.Add(make([]byte, 296), make([]byte, 24), "(page size of 1 bytes)\n\"Translation faults\": 4.\n", "")
	f.Fuzz(func(t *testing.T, a, b []byte, vmStat, printed string) {
		get := sysctl(func(name string) ([]byte, error) {
			if strings.HasPrefix(name, "hw.") || strings.HasPrefix(name, "vm.") {
				return a, nil
			}
			return b, nil
		})
		var s Snapshot
		get.host(&s, time.Unix(1<<31, 0))
		get.memory(&s)
		get.gpu(&s)
		decodeVMStat(vmStat, &s)
		s.Host.PowerMode = parsePowerMode(printed)
		s.GPU.UtilizationPercent = parseUtilization(printed)
		s.GPU.ResourcesInUse = parseClassCount(printed)
		s.Host.Thermal = parseThermal(printed)
		p := Process{}
		p.ResidentBytes, p.FootprintBytes = decodeRusage(a)
		s.Processes = append(parseTop(printed), p)
		checkSound(t, s)
		if decodeVMStatistics(b, math.MaxInt64, 16384, &s) == nil {
			checkSound(t, s)
		}
	})
}

// checkSound fails unless s can be saved and read again, and no size in it is
// negative.
func checkSound(t *testing.T, s Snapshot) {
	t.Helper()
	s.Schema, s.Host.OS = SnapshotSchema, "any"
	text, err := json.Marshal(s)
	if err != nil {
		t.Fatalf("snapshot does not marshal: %v", err)
	}
	if _, err := LoadSnapshot(strings.NewReader(string(text))); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(text), `"value":-`) {
		t.Fatalf("a negative value: %s", text)
	}
}
