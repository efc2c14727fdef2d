package install

import (
	"errors"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestFindCompiler(t *testing.T) {
	dir, tmp := t.TempDir(), t.TempDir()
	t.Setenv("PATH", dir)
	find := func(cxx string) (compiler, error) {
		t.Setenv("CXX", cxx)
		return findCompiler(t.Context(), tmp, io.Discard)
	}
	if _, err := find(""); codeOf(err) != NoCompiler {
		t.Errorf("none at all: %v", err)
	}
	writeFake(t, dir, "c++", "old-compiler compiler")
	if _, err := find(""); codeOf(err) != CompilerTooOld {
		t.Errorf("an old one alone: %v", err)
	}
	if hostKind() != Metal { // where only the usual names count
		later := writeFake(t, dir, "g++-12", "compiler")
		if c, err := find(""); err != nil || c.argv[0] != later {
			t.Errorf("a later one under its own name: %+v, %v", c, err)
		}
	}
	writeFake(t, dir, "clang++", "compiler")
	good, err := find("")
	if !slices.Equal(good.argv, []string{filepath.Join(dir, "clang++")}) || good.version != "fake 12.2.0" || err != nil {
		t.Errorf("a good one beside an old one: %+v, %v", good, err)
	}
	with, err := find("clang++ -march=armv8-a")
	if len(with.argv) != 2 || with.identity == good.identity || err != nil {
		t.Errorf("with arguments: %+v, %v", with, err)
	}
	if _, err := find("c++"); codeOf(err) != CompilerTooOld {
		t.Errorf("the old one by name: %v", err)
	}
	if _, err := find("icpc"); codeOf(err) != NoCompiler {
		t.Errorf("one that is not there: %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(tmp, "*")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestRefuseCompiler(t *testing.T) {
	cases := []struct {
		name, goos, said string
		want             Code
		text, fix        string
	}{
		{"GCC 10", "linux", "cxx20.cpp:9:2: error: #error too old for MLX: GCC 11 or later is needed\n    9 | #error too old for MLX: GCC 11 or later is needed", CompilerTooOld, "GCC 11 or later is needed", "CXX=g++-12"},
		{"clang 13", "linux", "cxx20.cpp:4:2: error: too old for MLX: clang 14 or later is needed\n#error too old", CompilerTooOld, "clang 14 or later is needed", "CXX="},
		{"GCC 7", "linux", "g++: error: unrecognized command line option '-std=c++20'; did you mean '-std=c++2a'?", CompilerTooOld, "does not know C++20", "CXX="},
		{"clang 9", "linux", "error: invalid value 'c++20' in '-std=c++20'", CompilerTooOld, "does not know C++20", "CXX="},
		{"an old Xcode", "darwin", "cxx20.cpp:4:2: error: too old for MLX: clang 14 or later is needed", CompilerTooOld, "clang 14", "Software Update"},
		{"GCC on a Mac", "darwin", "cxx20.cpp:7:2: error: #error not for MLX: on a Mac it is built with clang, whose C++ library GCC does not use", NoCompiler, "c++ does not go with MLX: on a Mac", "xcode-select"},
		{"libc++ on Linux", "linux", "cxx20.cpp:25:2: error: not for MLX: on Linux it is built with libstdc++, and this is libc++", NoCompiler, "this is libc++", "g++"},
		{"no tools", "darwin", "xcrun: error: invalid active developer path (/Library/Developer/CommandLineTools), missing xcrun at: /x", NoCompiler, "not installed", "xcode-select --install"},
		{"no tools, and an offer", "darwin", "xcode-select: note: No developer tools were found, requesting install.", NoCompiler, "not installed", "xcode-select --install"},
		{"license", "darwin", "You have not agreed to the Xcode license agreements. Please run 'sudo xcodebuild -license'", NoCompiler, "license", "sudo xcodebuild -license"},
		{"C alone", "linux", "gcc: fatal error: cannot execute 'cc1plus': execvp: No such file or directory\ncompilation terminated.", NoCompiler, "cc1plus", "sudo apt install g++"},
		{"no library", "linux", "/h/tmp/compiler-1/cxx20.cpp:12:10: fatal error: 'concepts' file not found", NoCompiler, "'concepts' file not found", "g++"},
		{"full", "linux", "c++: error: error writing to /t/x.s: No space left on device", DiskFull, "disk", "space"},
		{"mute", "linux", "", NoCompiler, "exit status 3", "g++"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			err := refuseCompiler(c.goos, "c++", c.said, &failure{name: "c++", err: errors.New("exit status 3")})
			if err.Code != c.want || !strings.Contains(err.Error(), c.text) || !strings.Contains(err.Fix, c.fix) {
				t.Errorf("%s: %v (fix %q)", err.Code, err, err.Fix)
			}
		})
	}
}

// The compiler of this machine, as findCompiler takes it, and made older.
func TestRealCompiler(t *testing.T) {
	c, err := findCompiler(t.Context(), t.TempDir(), io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	for _, arguments := range []string{"-U__clang_major__ -D__clang_major__=13 -U__GNUC__ -D__GNUC__=10", "-std=c++20 -nostdinc++", "-std=c++77"} {
		want := CompilerTooOld
		if strings.Contains(arguments, "-nostdinc++") || strings.Contains(arguments, "77") {
			want = NoCompiler
		}
		old := slices.Concat(c.argv, strings.Fields(arguments))
		if _, err := testCompiler(t.Context(), old, t.TempDir(), io.Discard); codeOf(err) != want {
			t.Errorf("%s: %v, want %s", arguments, err, want)
		}
	}
}

func TestCompilerEnviron(t *testing.T) {
	for name, value := range map[string]string{
		"MACOSX_DEPLOYMENT_TARGET": "11.0", "TMPDIR": "/elsewhere", "LC_ALL": "de_DE.UTF-8", "LANGUAGE": "de", "CCACHE_DIR": "/ccache",
	} {
		t.Setenv(name, value)
	}
	got := map[string]string{}
	for _, pair := range compilerEnviron("/work") {
		name, value, _ := strings.Cut(pair, "=")
		if _, twice := got[name]; twice {
			t.Errorf("%s is there twice", name)
		}
		got[name] = value
	}
	for name, want := range map[string]string{"MACOSX_DEPLOYMENT_TARGET": "", "TMPDIR": "/work", "LC_ALL": "C", "LANGUAGE": "", "CCACHE_DIR": "/ccache"} {
		if got[name] != want {
			t.Errorf("%s is %q, want %q", name, got[name], want)
		}
	}
}

func TestFirstError(t *testing.T) {
	for said, want := range map[string]string{
		"":         "",
		"all well": "",
		"a.cpp:1:1: warning: error: is a word\na.cpp:2:1: error: that is it\na.cpp:3:1: error: later":                                "a.cpp:2:1: error: that is it",
		"In file included from a.cpp:1:\n/m/include/mlx/array.h:3:10: fatal error: x.h: No such file or directory\n    3 | #include": "/m/include/mlx/array.h:3:10: fatal error: x.h: No such file or directory",
		"/usr/bin/ld: a.o: in function `f':\na.cpp:(.text+0x1): undefined reference to `g()'\ncollect2: error: ld returned 1":        "a.cpp:(.text+0x1): undefined reference to `g()'",
		"Undefined symbols for architecture arm64:\n  \"g()\", referenced from:\n      f() in a.o\nld: symbol(s) not found":          `Undefined symbols for architecture arm64: "g()", referenced from:`,
		"ld.lld: error: undefined symbol: g()\n>>> referenced by a.cpp":                                                              "ld.lld: error: undefined symbol: g()",
		"c++: fatal error: Killed signal terminated program cc1plus\ncompilation terminated.":                                        "c++: fatal error: Killed signal terminated program cc1plus",
		"/usr/bin/ld: cannot find -lmlx: No such file or directory":                                                                  "/usr/bin/ld: cannot find -lmlx: No such file or directory",
		"Undefined symbols": "Undefined symbols",
	} {
		if got := firstError(said); got != want {
			t.Errorf("%q: %q", said, got)
		}
	}
}

func FuzzFirstError(f *testing.F) {
	f.Add("a.cpp:2:1: error: that is it\nUndefined symbols\n x")
	f.Fuzz(func(t *testing.T, said string) {
		if got := firstError(said); len(got) > 310 || strings.Contains(got, "\n") || (got == "") != !errorLine.MatchString(said) && !strings.Contains(said, "warning:") {
			t.Fatalf("%q", got)
		}
	})
}
