package probe

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestCollectSurvivesReaders(t *testing.T) {
	for _, tc := range []struct {
		name string
		read func(s *Snapshot, end <-chan struct{})
		want string
	}{
		{"one that hangs", func(_ *Snapshot, end <-chan struct{}) { <-end }, "timed out after 1s"},
		{"one that reads too late", func(s *Snapshot, _ <-chan struct{}) {
			time.Sleep(2 * time.Second)
			s.Swap.TotalBytes = Known[int64](1, "late")
		}, "timed out after 1s"},
		{"one that panics", func(*Snapshot, <-chan struct{}) { panic("index out of range") }, "the reader panicked: index out of range"},
		{"one that says nothing", func(*Snapshot, <-chan struct{}) {}, "not reported on plan9"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				end, begin := make(chan struct{}), time.Now()
				s := collect(t.Context(), Snapshot{Host: Host{OS: "plan9"}, Model: &ModelState{Path: "m"}}, []reader{
					{
						read:  func(_ context.Context, s *Snapshot) { tc.read(s, end) },
						fills: func(s *Snapshot) []any { return []any{&s.Swap, &s.Model} },
					},
					{
						read:  func(_ context.Context, s *Snapshot) { s.Memory.TotalBytes = Known[int64](64, "good") },
						fills: func(s *Snapshot) []any { return []any{&s.Memory.TotalBytes} },
					},
				}, time.Second)
				if took := time.Since(begin); took > time.Second+grace { // of the bubble's clock
					t.Errorf("took %s", took)
				}
				time.Sleep(2 * time.Second) // the late one ends
				close(end)

				if got := show(s.Memory.TotalBytes); got != "64" {
					t.Errorf("the good reader's value: %s", got)
				}
				for _, v := range []Value[int64]{s.Swap.TotalBytes, s.Swap.OutBytes} {
					if got := show(v); got != tc.want {
						t.Errorf("swap: %s, want %s", got, tc.want)
					}
				}
				if strings.Contains(tc.want, "timed out") && s.Model.Problem != tc.want {
					t.Errorf("model: %q, want %q", s.Model.Problem, tc.want)
				}
			})
		})
	}
}

func TestCollectCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s := collect(ctx, Snapshot{}, []reader{{
		read:  func(ctx context.Context, s *Snapshot) { <-ctx.Done(); select {} },
		fills: func(s *Snapshot) []any { return []any{&s.Disk} },
	}}, time.Minute)
	if got := s.Disk.FreeBytes.Reason(); got != "cancelled" {
		t.Errorf("reason %q, want cancelled", got)
	}
}

func TestCollectHere(t *testing.T) {
	home := t.TempDir()
	s := Collect(t.Context(), Request{
		Home:         filepath.Join(home, "not", "there", "yet"),
		ModelPath:    filepath.Join(home, "no-model"),
		Install:      Install{State: "missing"},
		Data:         &DataState{Path: "d", Malformed: 2},
		TopProcesses: 3,
	})
	if s.Schema != SnapshotSchema || s.At.IsZero() || s.Host.OS != runtime.GOOS || s.Host.Arch != runtime.GOARCH {
		t.Errorf("head of the snapshot: %q %v %q %q", s.Schema, s.At, s.Host.OS, s.Host.Arch)
	}
	if n := s.Memory.TotalBytes.Or(0); n < 1<<26 {
		t.Errorf("total memory %d: %s", n, s.Memory.TotalBytes.Reason())
	}
	if a, n := s.Memory.AvailableBytes.Or(-1), s.Memory.TotalBytes.Or(0); a < 0 || a > n {
		t.Errorf("available memory %d of %d", a, n)
	}
	if p := s.Memory.PageBytes.Or(0); p != int64(os.Getpagesize()) {
		t.Errorf("page size %d", p)
	}
	if s.Disk.Path != home || s.Disk.FreeBytes.Or(0) <= 0 || s.Disk.FreeBytes.Or(0) > s.Disk.TotalBytes.Or(0) {
		t.Errorf("disk %+v", s.Disk)
	}
	if s.Model == nil || !strings.Contains(s.Model.Problem, "does not exist") {
		t.Errorf("model %+v", s.Model)
	}
	if len(s.Processes) == 0 || len(s.Processes) > 3 || s.Processes[0].ResidentBytes.Or(0) <= 0 {
		t.Errorf("processes %+v", s.Processes)
	}
	if s.Install.State != "missing" || s.Data.Malformed != 2 {
		t.Errorf("what the caller gave is lost: %+v %+v", s.Install, s.Data)
	}
	text, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(text), `"not read"`) {
		t.Errorf("a value is unknown without a reason: %s", text)
	}
}

func TestNoDirectoryForDisk(t *testing.T) {
	if d := readDisk(""); d.FreeBytes.Known() || d.FreeBytes.Reason() != "no directory was named" {
		t.Errorf("disk %+v", d)
	}
}

func TestBlocksToBytes(t *testing.T) {
	if n, err := blocksToBytes(1<<20, 4096); n != 1<<32 || err != nil {
		t.Errorf("got %d, %v", n, err)
	}
	if _, err := blocksToBytes(1<<62, 4096); err == nil {
		t.Error("an impossible size is accepted")
	}
}

func TestOutput(t *testing.T) {
	got, err := output(t.Context(), "sh", "-c", "echo $LC_ALL")
	if err != nil || strings.TrimSpace(got) != "C" {
		t.Errorf("got %q, %v", got, err)
	}
	if _, err := output(t.Context(), "sh", "-c", "echo no device >&2; exit 9"); err == nil || !strings.Contains(err.Error(), "no device") {
		t.Errorf("error %v does not say what the program said", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := output(ctx, "sleep", "60"); err == nil || !strings.Contains(err.Error(), "did not answer in time") {
		t.Errorf("a program that hangs: %v", err)
	}
}

// TestHangingProgramHidesNothing runs real programs, one of which never answers
// and does not care about signals that can be caught.
func TestHangingProgramHidesNothing(t *testing.T) {
	dir := t.TempDir()
	for name, script := range map[string]string{
		"ioclasscount": "trap '' TERM INT; while :; do sleep 1; done",
		"pmset":        "echo ' powermode 2'",
		"ioreg":        "echo broken >&2; exit 3",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	run := func(ctx context.Context, name string, args ...string) (string, error) {
		return output(ctx, filepath.Join(dir, filepath.Base(name)), args...)
	}
	a := apple{get: sysctls(map[string][]byte{"hw.memsize": u64(1 << 36)}), run: run, processes: func() ([]Process, bool) { return nil, false }}
	s := collect(t.Context(), Snapshot{Host: Host{OS: "darwin"}}, a.readers(), 2*time.Second)
	if got := s.GPU.ResourcesInUse.Reason(); !strings.Contains(got, "did not answer in time") && !strings.Contains(got, "timed out after 2s") {
		t.Errorf("the program that hangs: %q", got)
	}
	if got := s.GPU.UtilizationPercent.Reason(); !strings.Contains(got, "exit status 3 (broken)") {
		t.Errorf("the program that fails: %q", got)
	}
	if got := show(s.Host.PowerMode) + " " + show(s.Memory.TotalBytes); got != "high 68719476736" {
		t.Errorf("the good ones: %s", got)
	}
}

// A reader with a limit of its own is waited for longer than the others.
func TestReadersHaveLimitsOfTheirOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		after := func(d time.Duration, into func(*Snapshot) *Value[int64], limit time.Duration) reader {
			return reader{
				read: func(ctx context.Context, s *Snapshot) {
					select {
					case <-time.After(d):
						*into(s) = Known[int64](1, "slow")
					case <-ctx.Done():
						*into(s) = Unknown[int64](context.Cause(ctx).Error(), "slow")
					}
				},
				fills: func(s *Snapshot) []any { return []any{into(s)} }, limit: limit,
			}
		}
		s := collect(t.Context(), Snapshot{}, []reader{
			after(3*time.Second, func(s *Snapshot) *Value[int64] { return &s.Swap.InBytes }, 0),
			after(3*time.Second, func(s *Snapshot) *Value[int64] { return &s.Swap.OutBytes }, 5*time.Second),
		}, time.Second)
		if got := show(s.Swap.InBytes) + ", " + show(s.Swap.OutBytes); got != "timed out after 1s, 1" {
			t.Errorf("got %s", got)
		}
	})
}

// TestReadersWithoutAnything runs both systems' readers where nothing can be
// read: every value must say why.
func TestReadersWithoutAnything(t *testing.T) {
	for os, readers := range map[string][]reader{
		"darwin": apple{get: sysctls(nil), run: noPrograms, processes: func() ([]Process, bool) { return nil, true }, slow: true}.readers(),
		"linux":  linuxReaders(tree(nil), noPrograms, Request{TopProcesses: 3}),
	} {
		start := Snapshot{Schema: SnapshotSchema, Host: Host{OS: os}, GPU: GPU{Kind: "cuda"}, Cgroup: &Cgroup{}}
		s := collect(t.Context(), start, readers, time.Minute)
		for name, v := range map[string]interface{ Reason() string }{
			"total": s.Memory.TotalBytes, "wired": s.Memory.WiredBytes, "swap in": s.Swap.InBytes, "chip": s.Host.Chip,
		} {
			if r := v.Reason(); r == "" || r == "not read" || strings.HasPrefix(r, "not reported") {
				t.Errorf("%s: %s is unknown because %q", os, name, r)
			}
		}
		if s.Cgroup != nil && os == "linux" {
			t.Errorf("a control group where there is none: %+v", s.Cgroup)
		}
		checkSound(t, s)
	}
}

// NVIDIA's library is asked first; where it fails, its program.
func TestNVML(t *testing.T) {
	for _, tc := range []struct {
		name string
		r    nvmlReading
		err  error
		want string
	}{
		{"all of it", nvmlReading{Name: "NVIDIA H100", Driver: "580.1", Total: 80 << 30, Used: 1 << 30, Busy: 7, BusyKnown: true, ReasonsKnown: true}, nil, "NVIDIA H100 580.1 85899345920 1073741824 7 nominal nvml"},
		{"hot", nvmlReading{Name: "x", Total: 1, BusyKnown: true, Busy: 101, Reasons: 1<<6 | 1<<2, ReasonsKnown: true}, nil, "x the driver does not say 1 0 is 101, which is no percentage heavy nvml"},
		{"little of it", nvmlReading{Total: 1 << 63}, nil, "the driver does not say the driver does not say is impossibly large 0 the driver does not say the driver does not say why clocks are held down nvml"},
		{"no library", nvmlReading{}, errors.New("libnvidia-ml.so.1: not found"), "smi 1 2097152 1048576 3 not reported on linux nvidia-smi name"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := tree(nil)
			p.nvml = func() (nvmlReading, error) { return tc.r, tc.err }
			run := func(context.Context, string, ...string) (string, error) { return "smi, 1, 2, 1, 3\n", nil }
			s := collect(t.Context(), Snapshot{Host: Host{OS: "linux"}, GPU: GPU{Kind: "cuda"}}, linuxReaders(p, run, Request{}), time.Minute)
			g := s.GPU
			if got := strings.Join([]string{show(g.Name), show(g.DriverVersion), show(g.MemoryBytes), show(g.UsedBytes), show(g.UtilizationPercent), show(s.Host.Thermal), g.Name.Source()}, " "); got != tc.want {
				t.Errorf("got %q", got)
			}
			checkSound(t, s)
		})
	}
}

func TestReadersWithNVIDIA(t *testing.T) {
	run := func(_ context.Context, name string, args ...string) (string, error) {
		if name != "nvidia-smi" || args[0] != "--query-gpu="+nvidiaQuery {
			t.Errorf("ran %s %v", name, args)
		}
		return "NVIDIA H100 80GB HBM3, 580.159.04, 81559, 0, 0\n", nil
	}
	s := collect(t.Context(), Snapshot{Host: Host{OS: "linux"}, GPU: GPU{Kind: "cuda"}}, linuxReaders(tree(nil), run, Request{}), time.Minute)
	if got := show(s.GPU.MemoryBytes); s.GPU.Kind != "cuda" || got != "85520809984" {
		t.Errorf("GPU %q with %s bytes", s.GPU.Kind, got)
	}
}
