package probe

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite testdata/snapshots from the files beside it")

// TestFixtures reads every fixture machine with the readers of its system, and
// compares with the snapshot that other packages test with.
func TestFixtures(t *testing.T) {
	for _, tc := range []struct{ name, os string }{
		{"mac-m3-ultra-96gb", "darwin"},
		{"mac-m1-16gb-pressure", "darwin"},
		{"mac-m4-max-128gb-wired", "darwin"},
		{"linux", "linux"},
		{"linux-container", "linux"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			path := filepath.Join("testdata", "snapshots", tc.name+".json")
			saved, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			want, err := LoadSnapshot(bytes.NewReader(saved))
			if err != nil {
				t.Fatal(err)
			}

			start := Snapshot{
				Schema: SnapshotSchema, Origin: want.Origin, At: want.At, Disk: want.Disk, Install: want.Install, Model: want.Model, Data: want.Data,
				Host: Host{OS: want.Host.OS, Arch: want.Host.Arch}, GPU: GPU{Kind: want.GPU.Kind, WorkingSetBytes: want.GPU.WorkingSetBytes},
			}
			readers := macReaders(t, tc.name)
			if tc.os == "linux" {
				explainAll("no GPU that MLX could use was found", &start.GPU)
				readers = linuxReaders(procfs{root: os.DirFS(filepath.Join("testdata", tc.name)), pageBytes: 4096}, noPrograms, Request{TopProcesses: 1})
			}
			got := collect(t.Context(), start, readers, time.Minute)
			if tc.os == "linux" {
				got.Host.Cores = want.Host.Cores // of the machine that tests
			}

			text, err := json.MarshalIndent(got, "", "  ")
			if err != nil {
				t.Fatal(err)
			}
			text = append(text, '\n')
			if *update {
				if err := os.WriteFile(path, text, 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(string(saved), string(text)); diff != "" {
				t.Errorf("snapshot differs (-saved +read):\n%s", diff)
			}
		})
	}
}

func noPrograms(_ context.Context, name string, _ ...string) (string, error) {
	return "", errors.New(name + ": not found")
}

func macReaders(t *testing.T, name string) []reader {
	t.Helper()
	if !strings.HasPrefix(name, "mac-") {
		return nil
	}
	dir := filepath.Join("testdata", name)
	run := func(_ context.Context, program string, args ...string) (string, error) {
		if len(args) > 1 && args[1] == "therm" {
			program += "-therm"
		}
		b, err := os.ReadFile(filepath.Join(dir, filepath.Base(program)+".txt"))
		if err != nil {
			return "", errors.New(program + ": not recorded")
		}
		return string(b), nil
	}
	a := apple{get: recordedSysctl(t, filepath.Join(dir, "sysctl.txt")), run: run, top: 5, slow: true, processes: func() ([]Process, bool) {
		return recordedProcesses(t, filepath.Join(dir, "rusage.txt")), true
	}}
	if b, err := os.ReadFile(filepath.Join(dir, "vm_statistics64.txt")); err == nil {
		a.vm = func() ([]byte, error) { return unhex(t, strings.TrimSpace(string(b))), nil }
	}
	if b, err := os.ReadFile(filepath.Join(dir, "thermal.txt")); err == nil {
		a.thermal = func() (uint64, error) { return strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64) }
	}
	readers := a.readers()
	if reports := filepath.Join(dir, "DiagnosticReports"); exists(reports) {
		readers = append(readers, crashReader("DiagnosticReports", func(now time.Time) ([]Crash, error) {
			return crashReports([]fs.FS{os.DirFS(reports)}, []string{"/Library/Logs/DiagnosticReports"}, now)
		}))
	}
	return readers
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func recordedSysctl(t *testing.T, path string) sysctl {
	t.Helper()
	values := map[string][]byte{}
	eachLine(t, path, func(line string) {
		name, value, _ := strings.Cut(line, " ")
		values[name] = unhex(t, value)
	})
	return func(name string) ([]byte, error) {
		if raw, ok := values[name]; ok {
			return raw, nil
		}
		return nil, errors.New("no such file or directory") // as macOS puts it
	}
}

func recordedProcesses(t *testing.T, path string) []Process {
	t.Helper()
	var all []Process
	eachLine(t, path, func(line string) {
		fields := strings.Fields(line)
		pid, err := strconv.ParseInt(fields[0], 10, 32)
		if err != nil {
			t.Fatal(err)
		}
		p := Process{PID: int32(pid), Name: strings.Join(fields[1:len(fields)-1], " ")}
		p.ResidentBytes, p.FootprintBytes = decodeRusage(unhex(t, fields[len(fields)-1]))
		all = append(all, p)
	})
	return all
}

func eachLine(t *testing.T, path string, do func(string)) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		do(lines.Text())
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
