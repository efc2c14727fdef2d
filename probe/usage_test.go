package probe

import (
	"encoding/binary"
	"io/fs"
	"os"
	"os/exec"
	"runtime"
	"testing"
	"testing/fstest"
	"time"
)

const stat412 = "412 (a (strange) name) S 1 412 412 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 7 0 8812 99 1000 18446744073709551615 0\n"

// locked is a file that another user may not read.
type locked struct{ fs.FS }

func (l locked) Open(name string) (fs.File, error) {
	if name == "proc/412/smaps_rollup" {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrPermission}
	}
	return l.FS.Open(name)
}

func TestUsageOnLinux(t *testing.T) {
	root := fstest.MapFS{
		"proc/412/stat":         {Data: []byte(stat412)},
		"proc/412/statm":        {Data: []byte("1000 500 100 1 0 400 0\n")},
		"proc/412/smaps_rollup": {Data: []byte("00400000-7fff [rollup]\nRss:  2000 kB\nPss:  1500 kB\nPss_Dirty: 9 kB\n")},
		"proc/9/stat":           {Data: []byte("9 (dead) Z 1 9 9 0 -1 0 0 0 0 0 1 1 0 0 20 0 1 0 5 0 0\n")},
		"proc/10/stat":          {Data: []byte("10 (short) S 1\n")},
		"proc/11/stat":          {Data: []byte("11 (odd) S 1 9 9 0 -1 0 0 0 0 0 -1 1 0 0 20 0 1 0 5 0 0\n")},
	}
	p := procfs{root: root, pageBytes: 4096}
	u := p.usage(412)
	if u.Name.Or("") != "a (strange) name" || u.Footprint.Or(0) != 1500<<10 || u.Resident.Or(0) != 500*4096 ||
		u.Threads.Or(0) != 7 || u.CPU.Or(0) != 3*time.Second || u.StartedAt.Or(0) != 8812 || u.Ended {
		t.Errorf("%+v", u)
	}
	if u := (procfs{root: locked{root}, pageBytes: 4096}).usage(412); u.Footprint.Or(0) != 500*4096 || u.Footprint.Source() != "/proc/412/statm" {
		t.Errorf("of another user: footprint %s from %s, want the resident set", show(u.Footprint), u.Footprint.Source())
	}
	for pid, ended := range map[int]bool{9: true, 10: false, 11: false, 12: true} {
		if u := p.usage(pid); u.Ended != ended || u.Footprint.Known() || pid > 9 && u.Threads.Reason() == "" {
			t.Errorf("process %d: %+v", pid, u)
		}
	}
}

func TestUsageOnAMac(t *testing.T) {
	raw := make([]byte, rusageV4Bytes)
	binary.LittleEndian.PutUint64(raw[16:], 48_000_000)
	binary.LittleEndian.PutUint64(raw[24:], 24_000_000)
	if got := decodeRusageCPU(raw); got.Or(0) != 3*time.Second {
		t.Errorf("%s, want 3 s of 72 million ticks at 24 MHz", show(got))
	}
	task := make([]byte, taskInfoBytes)
	binary.LittleEndian.PutUint32(task[84:], 23)
	if got := decodeTaskThreads(task); got.Or(0) != 23 {
		t.Errorf("%s threads", show(got))
	}
	for text, want := range map[string]string{
		"Processes: 700 total\nPID  MEM\n412  1843M+\n": "1932525568",
		"PID  MEM\n412  12G\n":                          "12884901888",
		"PID  MEM\n":                                    "names no size",
		"PID  MEM\n412 M":                               "names no size",
		"PID  MEM\n412 -3M":                             "names no size",
		"PID  MEM\n412 9999999999999G":                  "names no size",
		"":                                              "names no process",
	} {
		if got := show(parseTopMemory(text)); got != want {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
	if decodeRusageCPU(nil).Known() || decodeTaskThreads(nil).Known() {
		t.Error("nothing was decoded to something")
	}
}

func TestUsageOfLiveProcesses(t *testing.T) {
	if runtime.GOOS != "linux" && runtime.GOOS != "darwin" {
		t.Skip("nothing can be read here")
	}
	held := make([]byte, 64<<20)
	for i := 0; i < len(held); i += 4096 {
		held[i] = 1
	}
	u := UsageOf(os.Getpid())
	if u.Footprint.Or(0) < 64<<20 || u.Threads.Or(0) < 2 || !u.CPU.Known() || !u.StartedAt.Known() || u.Ended {
		t.Errorf("this process: %+v", u)
	}
	runtime.KeepAlive(held)
	child := exec.Command("true")
	if err := child.Run(); err != nil {
		t.Fatal(err)
	}
	if u := UsageOf(child.Process.Pid); !u.Ended || u.Footprint.Known() {
		t.Errorf("a process that has ended: %+v", u)
	}
	if u := UsageOf(1); u.Ended || !u.Name.Known() {
		t.Errorf("the first process: %+v", u)
	}
}

func FuzzUsage(f *testing.F) {
	f.Add(stat412, "Pss:  1500 kB\n", "PID MEM\n1 2M\n")
	f.Fuzz(func(t *testing.T, stat, rollup, top string) {
		var u Usage
		u.decodeStat(stat, "")
		if u.Threads.Or(0) < 0 || u.CPU.Or(0) < 0 || u.StartedAt.Or(0) < 0 {
			t.Errorf("%+v of %q", u, stat)
		}
		if n, ok := parsePss(rollup); ok && n < 0 {
			t.Errorf("%d of %q", n, rollup)
		}
		if n := parseTopMemory(top).Or(0); n < 0 {
			t.Errorf("%d of %q", n, top)
		}
	})
}
