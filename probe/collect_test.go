package probe

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestCollectSurvivesReaders(t *testing.T) {
	good := reader{
		func(_ context.Context, s *Snapshot) { s.Memory.TotalBytes = Known[int64](64, "good") },
		func(s *Snapshot) []any { return []any{&s.Memory.TotalBytes} },
	}
	fillsSwap := func(s *Snapshot) []any { return []any{&s.Swap, &s.Model} }
	for _, tc := range []struct {
		name string
		read func(context.Context, *Snapshot)
		want string
	}{
		{"one that hangs", func(context.Context, *Snapshot) { select {} }, "timed out after 1s"},
		{"one that writes too late", func(_ context.Context, s *Snapshot) {
			time.Sleep(2 * time.Second)
			s.Swap.TotalBytes = Known[int64](1, "late")
		}, "timed out after 1s"},
		{"one that panics", func(context.Context, *Snapshot) { panic("index out of range") }, "the reader panicked: index out of range"},
		{"one that says nothing", func(context.Context, *Snapshot) {}, "not reported on plan9"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			// A reader that hangs for ever cannot run in a synctest bubble; the
			// others show that the limit is kept.
			limit, inBubble := time.Second, synctest.Test
			if tc.name == "one that hangs" {
				limit, inBubble = time.Millisecond, func(t *testing.T, f func(*testing.T)) { f(t) }
				tc.want = "timed out after 1ms"
			}
			inBubble(t, func(t *testing.T) {
				start := Snapshot{Host: Host{OS: "plan9"}, Model: &ModelState{Path: "m"}}
				begin := time.Now()
				s := collect(t.Context(), start, []reader{{tc.read, fillsSwap}, good}, limit)
				if limit == time.Second && time.Since(begin) > limit {
					t.Errorf("took %s", time.Since(begin))
				}
				if v, ok := s.Memory.TotalBytes.Get(); !ok || v != 64 {
					t.Errorf("the good reader's value is %v", s.Memory.TotalBytes)
				}
				for _, v := range []Value[int64]{s.Swap.TotalBytes, s.Swap.OutBytes} {
					if v.Known() || v.Reason() != tc.want {
						t.Errorf("swap: known %v, reason %q, want %q", v.Known(), v.Reason(), tc.want)
					}
				}
				if strings.Contains(tc.want, "timed out") && s.Model.Problem != tc.want {
					t.Errorf("model problem %q, want %q", s.Model.Problem, tc.want)
				}
				time.Sleep(5 * time.Second / (time.Second / limit)) // the late one ends
				if s.Swap.TotalBytes.Known() {
					t.Error("a reader wrote after it was given up on")
				}
			})
		})
	}
}

func TestCollectCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s := collect(ctx, Snapshot{}, []reader{{
		func(ctx context.Context, s *Snapshot) { <-ctx.Done(); select {} },
		func(s *Snapshot) []any { return []any{&s.Disk} },
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
