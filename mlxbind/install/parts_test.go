package install

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestClassifyPip(t *testing.T) {
	cases := []struct {
		name, said string
		want       Code
		quote      string
	}{
		{"refused", "WARNING: Retrying (Retry(total=0, connect=None, read=None, redirect=None, status=None)) after connection broken by 'NewConnectionError('<HTTPConnection object at 0x7f>: Failed to establish a new connection: [Errno 111] Connection refused')': /simple/mlx/\nERROR: Could not find a version that satisfies the requirement mlx==0.32.4 (from versions: none)\nERROR: No matching distribution found for mlx==0.32.4", RegistryOutOfReach, "refused"},
		{"no name service", "WARNING: Retrying (Retry(total=4)) after connection broken by 'NameResolutionError(\"Failed to resolve 'index'\")'", RegistryOutOfReach, ""},
		{"time-out in the middle", "pip._vendor.urllib3.exceptions.ReadTimeoutError: HTTPSConnectionPool(host='index', port=443): Read timed out.", RegistryOutOfReach, ""},
		{"proxy asks for a password", "ERROR: HTTP error 407 while getting https://index/x.whl", RegistryOutOfReach, ""},
		{"server error", "ERROR: 503 Server Error: Service Unavailable for url: https://index/simple/mlx/", RegistryOutOfReach, ""},
		{"firewall", "WARNING: Retrying after connection broken by 'NewConnectionError(': [Errno 13] Permission denied')'", RegistryOutOfReach, ""},
		{"certificate", "WARNING: Retrying after connection broken by 'SSLError(SSLCertVerificationError(1, '[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed'))'", RegistryOutOfReach, "CERTIFICATE"},
		{"no such wheel", "ERROR: Could not find a version that satisfies the requirement mlx-metal==0.32.4 (from versions: none)\nERROR: No matching distribution found for mlx-metal==0.32.4", PackageNotFound, "(No matching distribution found for mlx-metal==0.32.4)"},
		{"disk full", "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device", DiskFull, ""},
		{"quota", "OSError: [Errno 122] Disk quota exceeded: '/h/x'", DiskFull, ""},
		{"file size limit", "OSError: [Errno 27] File too large", DiskFull, ""},
		{"read-only", "ERROR: Could not install packages due to an OSError: [Errno 30] Read-only file system: '/h'", Unwritable, ""},
		{"something else", "ERROR: Exception:\nValueError: what nobody expected", PipFailed, "nobody expected"},
		{"nothing said", "", PipFailed, "exit status 2"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			watch := pipWatch{total: 1, progress: func(int, string) {}}
			out := &lines{each: watch.line}
			fmt.Fprintln(out, c.said)
			err := classifyPip(watch.bad, errors.New("exit status 2"))
			if err.Code != c.want || err.Fix == "" || !strings.Contains(err.Error(), c.quote) {
				t.Errorf("got %s: %v (fix %q)", err.Code, err, err.Fix)
			}
		})
	}
}

func TestPipProgress(t *testing.T) {
	var seen []string
	watch := pipWatch{total: 3, progress: func(done int, item string) { seen = append(seen, fmt.Sprint(done, " ", item)) }}
	out := &lines{each: watch.line}
	fmt.Fprint(out, "Looking in links: /wheels\nCollecting mlx==0.32.4 (from -r requirements.txt (line 2))\n  Down")
	fmt.Fprint(out, "loading mlx-0.32.4-cp313-cp313-manylinux_2_35_x86_64.whl (1.0 MB)\r\nProcessing /wheels/numpy-2.4.6-cp313.whl\n")
	fmt.Fprint(out, "Requirement already satisfied: pip in /e (24.2)\nCollecting one-too-many\nInstalling collected packages: mlx, numpy\n")
	want := []string{"1 mlx", "2 numpy-2.4.6-cp313.whl", "3 pip", "3 one-too-many", "3 unpacking"}
	if diff := cmp.Diff(want, seen); diff != "" {
		t.Error(diff)
	}
}

func TestLinesDoNotDependOnHowTheyArrive(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := rapid.SliceOf(rapid.StringMatching(`[a-z ]{0,20}`)).Draw(t, "lines")
		text := strings.Join(want, "\n")
		if len(want) > 0 {
			text += "\n"
		}
		var got []string
		out := &lines{each: func(s string) { got = append(got, s) }}
		for text != "" {
			n := rapid.IntRange(1, len(text)).Draw(t, "n")
			if m, err := out.Write([]byte(text[:n])); m != n || err != nil {
				t.Fatal(m, err)
			}
			text = text[n:]
		}
		if !slices.Equal(got, want) {
			t.Fatalf("got %q, want %q", got, want)
		}
	})
}

func TestPipEnviron(t *testing.T) {
	t.Setenv("PIP_TARGET", "/elsewhere")
	t.Setenv("PIP_USER", "1")
	t.Setenv("PIP_INDEX_URL", "https://index.example/simple")
	env := pipEnviron("/h/tmp")
	for pair, want := range map[string]bool{
		"PIP_TARGET=/elsewhere": false, "PIP_USER=1": false, "PIP_USER=0": true,
		"PIP_INDEX_URL=https://index.example/simple": true, "TMPDIR=/h/tmp": true,
	} {
		if slices.Contains(env, pair) != want {
			t.Errorf("%s there: %v, want %v", pair, !want, want)
		}
	}
}

func TestGPU(t *testing.T) {
	module := "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.159.04  Release Build  (dvs-builder@U22)\nGCC version:  gcc version 12.3.0\n"
	cases := []struct {
		name  string
		read  func(string) (gpu, bool)
		text  string
		found bool
		kind  string
	}{
		{"current driver", parseSMI, "580.159.04, 9.0\n", true, "cuda13"},
		{"two GPUs", parseSMI, "550.54.15, 8.6\n550.54.15, 8.6\n", true, "cuda12"},
		{"capability not told", parseSMI, "590.1, [N/A]\n", true, "cuda13"},
		{"driver too old", parseSMI, "470.57.02, 8.0\n", true, ""},
		{"GPU too old", parseSMI, "580.65.06, 6.1\n", true, ""},
		{"no GPU", parseSMI, "No devices were found\n", false, ""},
		{"nothing", parseSMI, "", false, ""},
		{"kernel's word", parseDriverVersion, module, true, "cuda13"},
		{"kernel's older form", parseDriverVersion, "NVRM version: NVIDIA UNIX x86_64 Kernel Module  525.105.17  Tue Mar 28\n", true, "cuda12"},
		{"no version", parseDriverVersion, "NVRM version: something\n", false, ""},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			g, found := c.read(c.text)
			if found != c.found {
				t.Fatalf("found: %v", found)
			}
			if !found {
				return
			}
			if kind, why := g.kind(); kind != c.kind || (kind == "") != (why != "") {
				t.Errorf("kind %q (%s), want %q", kind, why, c.kind)
			}
		})
	}
}

func TestRefusal(t *testing.T) {
	good := interpreter{Executable: "/p", Version: [3]int{3, 13, 0}, Implementation: "CPython", Bits: 64, Machine: "x86_64", Libc: [2]string{"glibc", "2.36"}}
	cases := []struct {
		name         string
		goos, goarch string
		edit         func(*interpreter)
		want         Code
	}{
		{"good", "linux", "amd64", func(p *interpreter) {}, ""},
		{"oldest", "linux", "amd64", func(p *interpreter) { p.Version[1] = 11 }, ""},
		{"newest", "linux", "amd64", func(p *interpreter) { p.Version[1] = 14 }, ""},
		{"3.10", "linux", "amd64", func(p *interpreter) { p.Version[1] = 10 }, NoPython},
		{"2.7", "linux", "amd64", func(p *interpreter) { p.Version = [3]int{2, 7, 18} }, NoPython},
		{"too new", "linux", "amd64", func(p *interpreter) { p.Version[1] = 15 }, Unsupported},
		{"another implementation", "linux", "amd64", func(p *interpreter) { p.Implementation = "PyPy" }, Unsupported},
		{"free-threaded", "linux", "amd64", func(p *interpreter) { p.FreeThreaded = true }, Unsupported},
		{"32 bits", "linux", "amd64", func(p *interpreter) { p.Bits = 32 }, Unsupported},
		{"old glibc", "linux", "amd64", func(p *interpreter) { p.Libc[1] = "2.31" }, Unsupported},
		{"another libc", "linux", "amd64", func(p *interpreter) { p.Libc = [2]string{} }, Unsupported},
		{"Rosetta", "darwin", "arm64", func(p *interpreter) { p.Libc = [2]string{} }, Unsupported},
		{"a Mac's own", "darwin", "arm64", func(p *interpreter) { p.Libc, p.Machine = [2]string{}, "arm64" }, ""},
		{"no ensurepip", "linux", "amd64", func(p *interpreter) { p.NoVenv = "No module named 'ensurepip'" }, NoVenv},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			p := good
			c.edit(&p)
			got := p.refusal(c.goos, c.goarch)
			switch {
			case got == nil && c.want != "", got != nil && (got.Code != c.want || got.Fix == ""):
				t.Errorf("got %+v, want %q", got, c.want)
			}
		})
	}
}

func TestFindPythonPrefersWhatWorks(t *testing.T) {
	onPath, installed := t.TempDir(), t.TempDir()
	writeFake(t, onPath, "python3.13", "mute")
	writeFake(t, onPath, "python3.12", "old")
	writeFake(t, onPath, "python3", "well")
	t.Setenv("PATH", onPath)
	find := func(named string) (string, error) {
		p, err := findPython(t.Context(), named, []string{installed})
		return p.Executable, err
	}
	if got, err := find(""); got != filepath.Join(onPath, "python3") || err != nil {
		t.Errorf("on PATH: %q, %v", got, err)
	}
	writeFake(t, installed, "python3.11", "well")
	if got, err := find(""); got != filepath.Join(installed, "python3.11") || err != nil {
		t.Errorf("installed: %q, %v", got, err)
	}
	if _, err := find("python3.12"); codeOf(err) != NoPython || !strings.Contains(err.Error(), "too old") {
		t.Errorf("one that is too old, by name: %v", err)
	}
	if _, err := find(filepath.Join(onPath, "nothing")); codeOf(err) != NoPython {
		t.Errorf("one that is not there: %v", err)
	}
	t.Setenv("PATH", t.TempDir())
	if _, err := findPython(t.Context(), "", nil); codeOf(err) != NoPython {
		t.Errorf("none at all: %v", err)
	}
}

func TestEnviron(t *testing.T) {
	managed := Env{Managed: true, BLASLibrary: "/e/lib.so"}
	get := func(e Env, inherited ...string) map[string]string {
		vars := map[string]string{}
		for _, pair := range e.environ(inherited) {
			name, value, _ := strings.Cut(pair, "=")
			vars[name] = value
		}
		return vars
	}
	vars := get(managed, "PYTHONPATH=/evil", "PYTHONHOME=/evil", "PYTHONDONTWRITEBYTECODE=1", "VIRTUAL_ENV=/evil",
		"MLX_X=1", "TMPDIR=/no/such/place", "LD_PRELOAD=/usr/lib/libopenblas.so.0:libjemalloc.so libmkl_rt.so", "=odd", "odd")
	for name, want := range map[string]string{
		"PYTHONPATH": "", "PYTHONHOME": "", "PYTHONDONTWRITEBYTECODE": "", "VIRTUAL_ENV": "",
		"MLX_X": "1", "LD_PRELOAD": "libjemalloc.so", "TMPDIR": "/tmp",
		"PYTHONNOUSERSITE": "1", "PYTHONUNBUFFERED": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false",
	} {
		if vars[name] != want {
			t.Errorf("%s is %q, want %q", name, vars[name], want)
		}
	}
	if n := vars["OPENBLAS_NUM_THREADS"]; n == "" || n == "0" {
		t.Errorf("threads: %q", n)
	}
	own := get(Env{}, "LD_PRELOAD=libopenblas.so", "HF_HUB_OFFLINE=0", "OPENBLAS_NUM_THREADS=3", "PYTHONDONTWRITEBYTECODE=1")
	for name, want := range map[string]string{"LD_PRELOAD": "libopenblas.so", "HF_HUB_OFFLINE": "0", "OPENBLAS_NUM_THREADS": "3", "PYTHONDONTWRITEBYTECODE": "1"} {
		if own[name] != want {
			t.Errorf("the user's %s is %q, want %q", name, own[name], want)
		}
	}
	if got := get(managed, "OMP_NUM_THREADS=5")["OPENBLAS_NUM_THREADS"]; got != "5" {
		t.Errorf("threads after OMP_NUM_THREADS: %q", got)
	}
	if _, there := get(managed, "LD_PRELOAD=libblas.so")["LD_PRELOAD"]; there {
		t.Error("an empty LD_PRELOAD is left")
	}
}

func TestRequirementsAreExact(t *testing.T) {
	hashes := map[string]string{}
	for _, kind := range []string{CPU, Metal, "cuda12", "cuda13"} {
		text, err := requirements(kind)
		if err != nil {
			t.Fatal(err)
		}
		lines := 0
		for line := range strings.Lines(text) {
			if !strings.HasPrefix(line, "#") {
				lines++
			}
		}
		list := pins(text)
		if len(list) != lines {
			t.Errorf("%s: %d lines pin %d packages", kind, lines, len(list))
		}
		for name, version := range list {
			if strings.HasPrefix(name, "mlx-") && name != "mlx-lm" && version != list["mlx"] {
				t.Errorf("%s: %s %s with mlx %s", kind, name, version, list["mlx"])
			}
		}
		hash, err := recipe(kind)
		if err != nil {
			t.Fatal(err)
		}
		hashes[hash] = kind
	}
	if len(hashes) != 4 {
		t.Errorf("recipes are not distinct: %v", slices.Collect(maps.Values(hashes)))
	}
	if _, err := requirements("tpu"); err == nil {
		t.Error("there is a list for no backend")
	}
}

func TestOlderThan(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{"0.31.2", "0.31.2", false}, {"0.31.1", "0.31.2", true}, {"0.9.0", "0.31.2", true}, {"1.0", "0.31.2", false},
		{"0.32", "0.32.0", false}, {"0.32.0.dev1", "0.32.0", false}, {"2.4", "2.35", true}, {"", "1", true}, {"x", "1", true},
	} {
		if got := olderThan(c.a, c.b); got != c.want {
			t.Errorf("olderThan(%q, %q) = %v", c.a, c.b, got)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		a, b := rapid.String().Draw(t, "a"), rapid.String().Draw(t, "b")
		if olderThan(a, b) && olderThan(b, a) {
			t.Fatal("each is older than the other")
		}
	})
}

func TestSpaceAndWriteErrors(t *testing.T) {
	dir := t.TempDir()
	if err := checkSpace(dir, 1); err != nil {
		t.Errorf("a byte: %v", err)
	}
	if err := checkSpace(dir, 1<<61); codeOf(err) != DiskFull {
		t.Errorf("2 EB: %v", err)
	}
	for cause, want := range map[error]Code{
		syscall.ENOSPC: DiskFull, syscall.EDQUOT: DiskFull, syscall.EFBIG: DiskFull,
		syscall.EACCES: Unwritable, syscall.EROFS: Unwritable, syscall.ENOTDIR: Unwritable, syscall.EIO: "",
	} {
		wrapped := fmt.Errorf("write: %w", &os.PathError{Op: "write", Path: dir, Err: cause})
		if got := explainWrite(dir, wrapped); codeOf(got) != want || !errors.Is(got, cause) {
			t.Errorf("%v becomes %v", cause, got)
		}
	}
	told := &Error{Code: NoCompiler, Err: syscall.EACCES}
	if got := explainWrite(dir, told); !errors.Is(got, told) || codeOf(got) != NoCompiler {
		t.Errorf("what was explained is explained again: %v", got)
	}
}

func FuzzDecodeSelfTest(f *testing.F) {
	f.Add(`{"packages":{"mlx":"0.32.4"},"checks":[]}` + "\n" + `{"checks":[{"name":"a","ok":true}],"finished":true}` + "\n")
	f.Add("{}\n{\n")
	f.Fuzz(func(t *testing.T, text string) {
		test, err := decodeSelfTest(strings.NewReader(text))
		if err == nil && strings.TrimSpace(text) == "" && test.Finished {
			t.Fatal("nothing was said, and it finished")
		}
	})
}

func TestSelfTestLinesCompleteEachOther(t *testing.T) {
	text := `{"packages":{"mlx":"1","old":"2"},"python_version":"3.13.0","checks":[]}
{"device":"gpu","checks":[{"name":"a","ok":true,"detail":"x"}]}
{"finished":true,"checks":[{"name":"a","ok":true},{"name":"b","ok":false}]}
`
	want := SelfTest{PythonVersion: "3.13.0", Device: "gpu", Finished: true,
		Packages: map[string]string{"mlx": "1", "old": "2"}, Checks: []Check{{Name: "a", OK: true}, {Name: "b"}}}
	got, err := decodeSelfTest(strings.NewReader(text))
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Error(err, diff)
	}
}
