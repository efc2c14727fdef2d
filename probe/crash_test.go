package probe

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"
)

const reports = "testdata/mac-m1-16gb-pressure/DiagnosticReports"

func readReport(t testing.TB, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(reports, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestCrashReports(t *testing.T) {
	for _, tc := range []struct{ name, text, want string }{
		{"a panic", readReport(t, "panic-full-2026-01-14-221530.0002.panic"), `panic 2026-01-14T21:15:30Z IOGPUMemory.cpp python3.12 9120 8514502656 panic(cpu 4 caller 0xfffffe0029d4f8a0): "completeMemory() prepare count underflow" @IOGPUMemory.cpp:550`},
		{"jetsam", readReport(t, "JetsamEvent-2026-01-13-190210.ips"), "jetsam 2026-01-13T18:02:10Z  python3.12 9120 8514502656 killed for vm-pageshortage"},
		{"jetsam that killed nobody", `{"bug_type":"298","timestamp":"2026-01-13 19:02:10.00 +0100"}` + "\n" + `{"largestProcess":"x","processes":[{"name":"x","pid":1,"rpages":9}]}`,
			"jetsam 2026-01-13T18:02:10Z   0 no process is marked as killed memory ran out; no process is marked as killed"},
		{"jetsam without a page size", `{"bug_type":"298"}` + "\n" + `{"processes":[{"name":"x","pid":1,"rpages":9,"reason":"highwater"}]}`,
			"jetsam 0001-01-01T00:00:00Z  x 1 is no number of pages killed for highwater"},
		{"an old panic in plain text", "Anonymous UUID: 0\n\npanic(cpu 0 caller 0x1): \"watchdog timeout\" @wd.c:9\n", `panic 0001-01-01T00:00:00Z wd.c  0 the panic names no task panic(cpu 0 caller 0x1): "watchdog timeout" @wd.c:9`},
		{"a panic that does not say the page size", `{"bug_type":"210"}` + "\n" + `{"panicString":"panic(cpu 0): x\nPanicked task 0x1: 5 pages, 1 threads: pid 7: kernel_task"}`,
			"panic 0001-01-01T00:00:00Z  kernel_task 7 the panic does not say how large pages are panic(cpu 0): x"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c, err := decodeCrashReport(tc.text)
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.Join([]string{string(c.Kind), c.At.Format(time.RFC3339), c.Component, c.Process, show(Known(c.PID, "")), show(c.Bytes), c.Text}, " "); got != tc.want {
				t.Errorf("got  %s\nwant %s", got, tc.want)
			}
		})
	}
	for name, text := range map[string]string{
		"nothing": "", "text": "hello", "another report": `{"bug_type":"309"}` + "\n{}", "a panic without words": `{"bug_type":"210"}` + "\n{}", "half a jetsam event": `{"bug_type":"298"}` + "\n{\"proc",
	} {
		if c, err := decodeCrashReport(text); err == nil {
			t.Errorf("%s: %+v", name, c)
		}
	}
}

func TestCrashReportsOfDirectories(t *testing.T) {
	now := time.Date(2026, 1, 15, 0, 0, 0, 0, time.UTC)
	file := func(text string, age time.Duration) *fstest.MapFile {
		return &fstest.MapFile{Data: []byte(text), ModTime: now.Add(-age)}
	}
	panicked := readReport(t, "panic-full-2026-01-14-221530.0002.panic")
	dir := fstest.MapFS{
		"panic-full-2026-01-14-221530.0002.panic": file(panicked, time.Hour),
		"Retired/JetsamEvent-2026-01-13-1.ips":    file(readReport(t, "JetsamEvent-2026-01-13-190210.ips"), 30*time.Hour),
		"panic-full-2025-01-14-221530.0002.panic": file(panicked, 365*24*time.Hour),
		"JetsamEvent-torn.ips":                    file("{", time.Hour),
		"Safari_2026.ips":                         file("{", time.Hour),
	}
	got, err := crashReports([]fs.FS{dir, fstest.MapFS{}}, []string{"/L", "/H"}, now)
	if err == nil || !strings.Contains(err.Error(), "/L/JetsamEvent-torn.ips: is no crash report") || strings.Contains(err.Error(), "Safari") {
		t.Errorf("error %v", err)
	}
	if len(got) != 2 || got[0].Kind != CrashPanic || got[1].Kind != CrashJetsam || got[1].Source != "/L/Retired/JetsamEvent-2026-01-13-1.ips" {
		t.Errorf("got %+v", got)
	}
	// What was found is kept though something could not be read.
	s := collect(t.Context(), Snapshot{At: now}, []reader{crashReader("DiagnosticReports", func(now time.Time) ([]Crash, error) {
		return crashReports([]fs.FS{dir}, []string{"/L"}, now)
	})}, time.Minute)
	if len(s.Crashes) != 2 || s.CrashesFound.Known() || !strings.Contains(s.CrashesFound.Reason(), "torn") {
		t.Errorf("%d crashes, %s", len(s.Crashes), show(s.CrashesFound))
	}
	s = collect(t.Context(), Snapshot{At: now}, []reader{crashReader("log", func(time.Time) ([]Crash, error) { return nil, errors.New("not allowed\nat all") })}, time.Minute)
	if s.CrashesFound.Reason() != "not allowed" {
		t.Errorf("reason %q", s.CrashesFound.Reason())
	}
}

func TestKernelLog(t *testing.T) {
	b, err := os.ReadFile("testdata/kmsg.txt")
	if err != nil {
		t.Fatal(err)
	}
	booted := time.Date(2026, 1, 15, 9, 0, 0, 0, time.UTC)
	var got []string
	for _, c := range parseKernelLog(string(b), booted) {
		got = append(got, strings.Join([]string{string(c.Kind), c.At.Format("15:04:05"), c.Process, show(Known(c.PID, "")), show(c.Bytes)}, " "))
	}
	want := "gpu 09:16:32 python3 7001 the kernel's record does not say it|oom 09:15:12 mlxdyno 5120 4222418944|oom 09:13:32 python3 4021 30846418944"
	if s := strings.Join(got, "|"); s != want {
		t.Errorf("got %s", s)
	}
	if c := parseKernelLog("3,1,99999999999999999999,-;Out of memory: Killed process 99999999999 (x)\n", booted); len(c) != 1 || !c[0].At.IsZero() || c[0].PID != 0 {
		t.Errorf("impossible numbers: %+v", c)
	}
}

func FuzzCrashReport(f *testing.F) {
	f.Add(readReport(f, "panic-full-2026-01-14-221530.0002.panic"))
	f.Add(readReport(f, "JetsamEvent-2026-01-13-190210.ips"))
	f.Add("panic(cpu 0 caller 0x1): \"x\" @a.cpp:1\npagesize 16384\nPanicked task 0x1: 99999999999999999999 pages, 1 threads: pid 7: k")
	f.Fuzz(func(t *testing.T, text string) {
		c, err := decodeCrashReport(text)
		if err != nil {
			return
		}
		soundCrash(t, c)
	})
}

func FuzzKernelLog(f *testing.F) {
	b, err := os.ReadFile("testdata/kmsg.txt")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(b), int64(1_700_000_000))
	f.Add("3,1,5,-;Out of memory: Killed process 1 (a) anon-rss:99999999999999999999kB\n", int64(0))
	f.Fuzz(func(t *testing.T, text string, booted int64) {
		for _, c := range parseKernelLog(text, time.Unix(booted%1e11, 0)) {
			soundCrash(t, c)
		}
	})
}

func soundCrash(t *testing.T, c Crash) {
	t.Helper()
	if c.Kind == "" || strings.Contains(c.Text, "\n") || len([]rune(c.Text)) > lineLength+1 || c.PID < 0 {
		t.Fatalf("%+v", c)
	}
	s := Snapshot{Crashes: []Crash{c}}
	checkSound(t, s)
	if _, err := json.Marshal(c); err != nil {
		t.Fatal(err)
	}
}
