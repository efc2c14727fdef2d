package install

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/mlxdyno/mlxdyno/mlxbind/shim"
)

//go:embed assets/cxx20.cpp
var compilerTest string

// compiler is a C++ compiler that passed its test.
type compiler struct {
	argv     []string // the program and the arguments that come first
	version  string   // in its own words, a line
	identity string   // all that tells it from another one
}

// compilerNames are tried in this order; those with a version may be there
// beside an old one. On a Mac all that is called g++ is either clang, too, or
// of no use.
func compilerNames(goos string) []string {
	if goos == "darwin" {
		return []string{"c++", "clang++"}
	}
	names := []string{"c++", "g++", "clang++"}
	for v := 16; v >= 11; v-- {
		names = append(names, "g++-"+strconv.Itoa(v))
	}
	for v := 22; v >= 14; v-- {
		names = append(names, "clang++-"+strconv.Itoa(v))
	}
	return names
}

// findCompiler returns $CXX, which may hold arguments, or the first compiler
// on PATH that passes the test. It writes into tmp.
func findCompiler(ctx context.Context, tmp string, log io.Writer) (compiler, error) {
	if words := strings.Fields(os.Getenv("CXX")); len(words) > 0 {
		path, err := exec.LookPath(words[0])
		if err != nil {
			return compiler{}, &Error{Code: NoCompiler, Text: "the compiler that CXX names cannot be run", Err: err, Fix: fixCompiler(runtime.GOOS)}
		}
		return testCompiler(ctx, append([]string{path}, words[1:]...), tmp, log)
	}
	var first *Error
	var seen []string // the same program has several names
	for _, name := range compilerNames(runtime.GOOS) {
		path, err := exec.LookPath(name)
		if err != nil {
			continue
		}
		program, err := filepath.EvalSymlinks(path)
		if err != nil || slices.Contains(seen, program) {
			continue
		}
		seen = append(seen, program)
		c, err := testCompiler(ctx, []string{path}, tmp, log)
		var refused *Error
		if err == nil || !errors.As(err, &refused) || refused.Code == DiskFull {
			return c, err
		}
		if first == nil {
			first = refused
		}
	}
	if first != nil {
		return compiler{}, first
	}
	return compiler{}, &Error{Code: NoCompiler, Text: "found no C++ compiler: the binding to MLX is compiled on the machine where it runs", Fix: fixCompiler(runtime.GOOS)}
}

// testCompiler has a compiler say what it is, and compile and link what MLX's
// headers ask of one, with the flags that the shim is compiled with.
func testCompiler(ctx context.Context, argv []string, tmp string, log io.Writer) (compiler, error) {
	work, err := os.MkdirTemp(tmp, "compiler-")
	if err != nil {
		return compiler{}, err
	}
	defer os.RemoveAll(work)
	source, object := filepath.Join(work, "cxx20.cpp"), filepath.Join(work, "cxx20.o")
	if err := os.WriteFile(source, []byte(compilerTest), 0o644); err != nil {
		return compiler{}, err
	}
	var said strings.Builder
	for _, arguments := range [][]string{
		{"--version"},
		shim.Compile(work, source, object),
		{"-shared", "-o", filepath.Join(work, "cxx20.so"), object},
	} {
		output, err := runCompiler(ctx, slices.Concat(argv, arguments), work, log)
		var failed *failure
		if errors.As(err, &failed) {
			return compiler{}, refuseCompiler(runtime.GOOS, strings.Join(argv, " "), output, failed)
		}
		if err != nil {
			return compiler{}, err
		}
		if said.Len() == 0 {
			said.WriteString(output)
		}
	}
	text := strings.TrimSpace(said.String())
	version, _, _ := strings.Cut(text, "\n")
	return compiler{argv: argv, version: clip(version, 100), identity: strings.Join(argv, "\x00") + "\n" + text}, nil
}

// runCompiler runs a compiler and returns what it said, which goes to the log
// in one piece: several may run at once.
func runCompiler(ctx context.Context, argv []string, tmp string, log io.Writer) (string, error) {
	said := &tail{limit: 4 << 20}
	err := runCommand(ctx, command{argv: argv, env: compilerEnviron(tmp), log: said})
	fmt.Fprintf(log, "%s\n%s\n", strings.Join(argv, " "), said)
	return said.String(), err
}

// compilerEnviron is the environment for compilers: messages in one language,
// temporary files beside the result, so that there is no second file system to
// run full, and the system's own version as the oldest to run on: an older one,
// which Conda sets, hides parts of the library that MLX's headers use.
func compilerEnviron(tmp string) []string {
	env := slices.DeleteFunc(Env{}.Environ(), func(pair string) bool {
		return strings.HasPrefix(pair, "MACOSX_DEPLOYMENT_TARGET=") || strings.HasPrefix(pair, "TMPDIR=") ||
			strings.HasPrefix(pair, "LC_ALL=") || strings.HasPrefix(pair, "LANGUAGE=")
	})
	return append(env, "LC_ALL=C", "TMPDIR="+tmp)
}

var (
	notForUs = regexp.MustCompile(`#?error:? "?not for MLX: ([^\n"]+)`)
	tooOld   = regexp.MustCompile(`too old for MLX: ((?:clang|GCC) \d+ or later is needed)|(?:unrecognized|unknown|invalid).{0,60}c\+\+20`)
	noTools  = regexp.MustCompile(`xcrun: error|xcode-select|No developer tools|invalid active developer path`)
	unagreed = regexp.MustCompile(`(?i)agree.{0,40}license|license.{0,40}agree`)
)

// refuseCompiler says why a compiler will not do, from what it said when it
// failed.
func refuseCompiler(goos, name, said string, failed *failure) *Error {
	fix := fixCompiler(goos)
	switch m := tooOld.FindStringSubmatch(said); {
	case diskFull(said):
		return errDiskFull("the disk ran full while the compiler was tried")
	case m != nil:
		need := m[1]
		if need == "" {
			need = "it does not know C++20, and GCC 11 or clang 14, or later, is needed"
		}
		fix = otherCompiler(goos)
		return &Error{Code: CompilerTooOld, Text: name + " is too old to compile against MLX's headers: " + need, Fix: fix}
	case notForUs.MatchString(said):
		why := strings.TrimSpace(notForUs.FindStringSubmatch(said)[1])
		return &Error{Code: NoCompiler, Text: name + " does not go with MLX: " + why, Fix: fix}
	case unagreed.MatchString(said):
		return &Error{Code: NoCompiler, Text: "Apple's compiler waits for its license to be agreed to", Fix: "sudo xcodebuild -license, then run mlxdyno setup again"}
	case noTools.MatchString(said):
		return &Error{Code: NoCompiler, Text: "Apple's command line tools, which hold the C++ compiler, are not installed", Fix: fix}
	}
	refused := &Error{Code: NoCompiler, Text: name + " cannot compile C++", Fix: fix}
	if line := firstError(said); line != "" {
		refused.Text += ": " + line
	} else {
		refused.Err = failed
	}
	return refused
}

func fixCompiler(goos string) string {
	if goos == "darwin" {
		return "xcode-select --install, then run mlxdyno setup again"
	}
	return "install a C++ compiler (Debian and Ubuntu: sudo apt install g++; Fedora: sudo dnf install gcc-c++), or set CXX to one"
}

func otherCompiler(goos string) string {
	if goos == "darwin" {
		return "update the command line tools in Software Update, then run mlxdyno setup again"
	}
	return "install a later compiler and name it: CXX=g++-12 mlxdyno setup"
}

var errorLine = regexp.MustCompile(`error:|(?i:undefined reference to|undefined symbol|cannot find -l|killed signal)`)

// firstError is the line in which a compiler or linker says first what is
// wrong; empty if there is none.
func firstError(said string) string {
	all := strings.Split(said, "\n")
	for i, line := range all {
		line = strings.TrimSpace(line)
		if !errorLine.MatchString(line) || strings.Contains(line, "warning:") {
			continue
		}
		// Apple's linker names the symbol in the line after it.
		if strings.HasPrefix(line, "Undefined symbols") && i+1 < len(all) {
			line += " " + strings.TrimSpace(all[i+1])
		}
		return clip(line, 300)
	}
	return ""
}
