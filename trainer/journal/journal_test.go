package journal

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// childEnv names what the test binary does when it stands for a process that
// keeps a journal.
const childEnv = "JOURNAL_TEST_CHILD"

func TestMain(m *testing.M) {
	path := os.Getenv("JOURNAL_TEST_PATH")
	switch os.Getenv(childEnv) {
	case "":
		os.Exit(m.Run())
	case "append for ever":
		appendForEver(path)
	case "fill the disk":
		fillTheDisk(path)
	}
}

func child(t *testing.T, what, path string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), exe)
	cmd.Env = append(os.Environ(), childEnv+"="+what, "JOURNAL_TEST_PATH="+path)
	cmd.Stderr = os.Stderr
	return cmd
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func open(t *testing.T, path string) *Journal {
	t.Helper()
	j, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { j.Close() })
	return j
}

func add(t *testing.T, j *Journal, kind string, v any) {
	t.Helper()
	if err := j.Append(kind, v); err != nil {
		t.Fatal(err)
	}
}

// contents returns "kind data" of every record.
func contents(t *testing.T, path string) []string {
	t.Helper()
	var got []string
	if err := Read(path, func(r Record) error {
		got = append(got, r.Kind+" "+string(r.Data))
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return got
}

func TestAppendAndRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "j")
	j := open(t, path)
	at := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	j.now = func() time.Time { return at }
	add(t, j, "start", map[string]int{"n": 1})
	add(t, j, "nothing", nil)
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	add(t, open(t, path), "again", "<text>\n")

	var got []Record
	if err := Read(path, func(r Record) error { got = append(got, r); return nil }); err != nil {
		t.Fatal(err)
	}
	if len(got) != 3 || !got[0].At.Equal(at) {
		t.Fatalf("got %+v", got)
	}
	want := []string{`start {"n":1}`, "nothing null", `again "\u003ctext\u003e\n"`}
	if diff := cmp.Diff(want, contents(t, path)); diff != "" {
		t.Error(diff)
	}
}

const (
	first  = `{"kind":"a","at":"2026-01-02T03:04:05Z","data":1}` + "\n"
	second = `{"kind":"b","at":"2026-01-02T03:04:05Z","data":2}` + "\n"
)

func TestATornLastLineIsPassedOverAndCutOff(t *testing.T) {
	tests := map[string]string{
		"nothing torn":                   "",
		"half a record":                  second[:20],
		"a record without its newline":   strings.TrimSuffix(second, "\n"),
		"zeros":                          strings.Repeat("\x00", 5000),
		"zeros that end in a newline":    strings.Repeat("\x00", 5000) + "\n",
		"half of its bytes are zeros":    strings.Repeat("\x00", 20) + second[20:],
		"garbage that ends in a newline": "garbage\n",
	}
	for name, tail := range tests {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "j")
			if err := os.WriteFile(path, []byte(first+tail), 0o644); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff([]string{"a 1"}, contents(t, path)); diff != "" {
				t.Error("before Open: " + diff)
			}
			add(t, open(t, path), "c", 3)
			if diff := cmp.Diff([]string{"a 1", "c 3"}, contents(t, path)); diff != "" {
				t.Error("after Open and Append: " + diff)
			}
		})
	}
}

func TestDamageInTheMiddleIsAnError(t *testing.T) {
	tests := map[string]struct {
		content string
		line    int
	}{
		"first line":              {"garbage\n" + second, 1},
		"middle line":             {first + first[:20] + "\n" + second, 2},
		"zeros in the middle":     {first + strings.Repeat("\x00", 30) + "\n" + second, 2},
		"before a torn last line": {first + "{}\n" + second[:10], 2},
		"no kind":                 {first + `{"at":"2026-01-02T03:04:05Z"}` + "\n" + second, 2},
		"lost newline":            {first + strings.TrimSuffix(first, "\n") + second + second, 2},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "j")
			if err := os.WriteFile(path, []byte(tt.content), 0o644); err != nil {
				t.Fatal(err)
			}
			_, openErr := Open(path)
			for what, err := range map[string]error{"Read": Read(path, func(Record) error { return nil }), "Open": openErr} {
				var damaged *DamagedError
				if !errors.As(err, &damaged) || damaged.Line != tt.line || !strings.Contains(err.Error(), path) {
					t.Errorf("%s: got %v, want damage in line %d of %s", what, err, tt.line, path)
				}
			}
			if got, err := os.ReadFile(path); err != nil || string(got) != tt.content {
				t.Errorf("the damaged file was changed: %v", err)
			}
		})
	}
}

func TestErrors(t *testing.T) {
	dir := t.TempDir()
	if err := Read(filepath.Join(dir, "none"), nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("reading a missing journal: %v", err)
	}
	if _, err := Open(filepath.Join(dir, "no", "folder")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("opening in a missing directory: %v", err)
	}
	path := filepath.Join(dir, "j")
	j := open(t, path)
	for name, err := range map[string]error{
		"a record without a kind":     j.Append("", 1),
		"a value that is no JSON":     j.Append("a", make(chan int)),
		"a record beyond the maximum": j.Append("a", strings.Repeat("x", MaxRecord)),
	} {
		if err == nil {
			t.Errorf("%s was taken", name)
		}
	}
	add(t, j, "a", 1)
	add(t, j, "b", 2)
	stop := errors.New("enough")
	seen := 0
	if err := Read(path, func(Record) error { seen++; return stop }); !errors.Is(err, stop) || seen != 1 {
		t.Errorf("got %v after %d records, want the caller's error after the first", err, seen)
	}
}

func appendForEver(path string) {
	j, err := Open(path)
	must(err)
	n := 0
	must(Read(path, func(Record) error { n++; return nil }))
	for ; ; n++ {
		must(j.Append("n", map[string]any{"n": n, "pad": strings.Repeat("x", n*37%5000)}))
		fmt.Println(n) // acknowledged
	}
}

// TestKilled: whatever was acknowledged before a SIGKILL is there, once and in
// order.
func TestKilled(t *testing.T) {
	path := filepath.Join(t.TempDir(), "j")
	acknowledged := -1
	for range 12 {
		cmd := child(t, "append for ever", path)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		killAfter := rand.IntN(30)
		for i := 0; lines.Scan(); i++ {
			if acknowledged, err = strconv.Atoi(lines.Text()); err != nil {
				t.Fatal(err)
			}
			if i == killAfter {
				if err := cmd.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := cmd.Wait(); err == nil {
			t.Fatal("the child ended by itself")
		}
		next := 0
		if err := Read(path, func(r Record) error {
			var v struct{ N int }
			if err := json.Unmarshal(r.Data, &v); err != nil || v.N != next {
				return fmt.Errorf("record %d: %d, %w", next, v.N, err)
			}
			next++
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if next <= acknowledged {
			t.Fatalf("%d records are there, %d were acknowledged", next, acknowledged+1)
		}
	}
}

// fillTheDisk runs into a limit of the file's size, which the kernel reports as
// it does a full disk: by a write that is cut short, then by an error.
func fillTheDisk(path string) {
	signal.Ignore(syscall.SIGXFSZ)
	j, err := Open(path)
	must(err)
	must(j.Append("before", 1))
	var limit syscall.Rlimit
	must(syscall.Getrlimit(syscall.RLIMIT_FSIZE, &limit))
	full := limit
	full.Cur = 200
	must(syscall.Setrlimit(syscall.RLIMIT_FSIZE, &full))
	for range 2 {
		fmt.Println(j.Append("too much", strings.Repeat("x", 1000)))
	}
	must(j.Append("fits", 2))
	must(syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit))
	must(j.Append("after", 3))
	must(j.Close())
}

func TestAFullDiskLosesNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "j")
	out, err := child(t, "fill the disk", path).Output()
	if err != nil {
		t.Fatal(err)
	}
	if want := "append too much to journal: write " + path + ": file too large"; strings.Count(string(out), want) != 2 {
		t.Errorf("got %s, want twice %q", out, want)
	}
	if diff := cmp.Diff([]string{"before 1", "fits 2", "after 3"}, contents(t, path)); diff != "" {
		t.Error(diff)
	}
}

// FuzzScan: any file is read to its end, to damage, or to a torn tail; the part
// that counts reads the same by itself, and takes another record.
func FuzzScan(f *testing.F) {
	f.Add([]byte(first + second))
	f.Add([]byte(first + second[:9]))
	f.Add([]byte(first + "\x00\n"))
	f.Add([]byte("\n" + first))
	f.Fuzz(func(t *testing.T, in []byte) {
		var got, again []Record
		end, err := scan(bytes.NewReader(in), "j", func(r Record) error { got = append(got, r); return nil })
		if errors.As(err, new(*DamagedError)) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		whole := append(in[:end:end], second...)
		if end, err = scan(bytes.NewReader(whole), "j", func(r Record) error { again = append(again, r); return nil }); err != nil {
			t.Fatal(err)
		}
		if int(end) != len(whole) || len(again) != len(got)+1 || !cmp.Equal(append(got, again[len(got)]), again) {
			t.Fatalf("%v became %v", got, again)
		}
	})
}
