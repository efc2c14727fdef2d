package install

import (
	"bufio"
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mlxdyno/mlxdyno/mlxbind/shim"
)

//go:embed assets/selftest.py
var selfTestScript string

//go:embed assets/binding.py
var bindingScript string

// SelfTest is what an environment proved in a process of its own.
type SelfTest struct {
	Checks        []Check           `json:"checks"`
	PythonVersion string            `json:"python_version"`
	Device        string            `json:"device"`           // MLX's default
	GFLOPS        float64           `json:"gflops,omitempty"` // a rough figure of a 1024 x 1024 float32 product
	BLAS          string            `json:"blas,omitempty"`   // on a Linux CPU
	MLX           string            `json:"mlx"`              // directory
	Packages      map[string]string `json:"packages,omitempty"`
	Finished      bool              `json:"finished"`
}

// bindingCheck is the check of the shim.
const bindingCheck = "binding"

// Check is one thing that must hold.
type Check struct {
	Name    string  `json:"name"`
	OK      bool    `json:"ok"`
	Detail  string  `json:"detail,omitempty"`
	Seconds float64 `json:"seconds"`
}

// failed returns the first check that did not hold.
func (t SelfTest) failed() (Check, bool) {
	for _, c := range t.Checks {
		if !c.OK {
			return c, true
		}
	}
	return Check{}, false
}

// selfTest runs the self-test. The error tells that the process failed; what
// it said before is returned all the same, and its checks tell the rest.
func selfTest(ctx context.Context, e Env, log io.Writer) (SelfTest, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	r, w, err := os.Pipe()
	if err != nil {
		return SelfTest{}, fmt.Errorf("start the self-test: %w", err)
	}
	defer r.Close()
	type answer struct {
		test SelfTest
		err  error
	}
	read := make(chan answer, 1)
	go func() {
		test, err := decodeSelfTest(r)
		read <- answer{test, err}
	}()
	env := e.Environ()
	if !e.Managed {
		env = append(env, "PYTHONDONTWRITEBYTECODE=1") // leave the user's own as it is
	}
	err = runCommand(ctx, command{
		argv: []string{e.Python, "-c", selfTestScript, "selftest", e.BLASLibrary, e.Backend, e.Shim, bindingScript, shim.VersionFunction, shim.MLXVersionFunction},
		env:  env, log: log, extra: w,
	})
	w.Close()
	said := <-read
	if err == nil {
		err = said.err
	}
	if err == nil && !said.test.Finished {
		err = fmt.Errorf("it ended early")
	}
	return said.test, err
}

// decodeSelfTest reads the JSON lines of the self-test, each of which
// completes the ones before.
func decodeSelfTest(r io.Reader) (SelfTest, error) {
	var test SelfTest
	in := bufio.NewScanner(r)
	in.Buffer(nil, 1<<20)
	for in.Scan() {
		next := test
		next.Checks, next.Packages = nil, nil // not to be merged element by element
		if err := json.Unmarshal(in.Bytes(), &next); err != nil {
			_, _ = io.Copy(io.Discard, r) // or the writer never ends
			return test, fmt.Errorf("read the self-test: %w", err)
		}
		if next.Packages == nil {
			next.Packages = test.Packages
		}
		test = next
	}
	if err := in.Err(); err != nil {
		_, _ = io.Copy(io.Discard, r)
		return test, fmt.Errorf("read the self-test: %w", err)
	}
	return test, nil
}

var quarantineWords = regexp.MustCompile(`library load disallowed by system policy|com\.apple\.quarantine|code signature .{0,300}not valid|cannot be opened because the developer|library load denied by system policy`)

// verdict turns the outcome of a self-test into an Error, or nil. site is the
// directory that holds the packages.
func verdict(test SelfTest, err error, site string) error {
	said := ""
	if err != nil {
		said = err.Error()
	}
	bad, failed := test.failed()
	said += bad.Detail
	if quarantineWords.MatchString(said) || (said != "" && quarantined(site)) {
		return &Error{Code: Quarantined, Text: "macOS keeps MLX's library in quarantine and does not load it", Fix: fmt.Sprintf("xattr -dr com.apple.quarantine %q, then run mlxdyno setup again", site)}
	}
	fix := "read the log; mlxdyno setup --force installs everything anew"
	switch {
	case failed && bad.Name == bindingCheck && strings.Contains(bad.Detail, "GLIBCXX_"):
		return &Error{Code: SelfTestFailed, Text: "the binding to MLX was compiled for a newer C++ library than Python loads: " + clip(bad.Detail, 300), Fix: "name the system's own compiler: CXX=/usr/bin/c++ mlxdyno setup --force"}
	case failed && bad.Name == bindingCheck:
		return &Error{Code: SelfTestFailed, Text: "the binding to MLX does not work: " + clip(bad.Detail, 300), Fix: "mlxdyno setup --force builds it anew; did something change MLX after it was installed?"}
	case failed && strings.Contains(bad.Detail, "GLIBCXX_"), failed && strings.Contains(bad.Detail, "GLIBC_"):
		return &Error{Code: Unsupported, Text: "MLX needs a newer system library: " + clip(bad.Detail, 300), Fix: "use a distribution with glibc 2.35 or later, such as Ubuntu 22.04 or Debian 12"}
	case failed:
		return &Error{Code: SelfTestFailed, Text: fmt.Sprintf("the self-test failed at %q: %s", bad.Name, clip(bad.Detail, 300)), Fix: fix}
	case err != nil:
		after := "at its start"
		if n := len(test.Checks); n > 0 {
			after = fmt.Sprintf("after %q", test.Checks[n-1].Name)
		}
		return &Error{Code: SelfTestFailed, Text: "the self-test's process failed " + after, Err: err, Fix: fix}
	}
	return nil
}

// quarantined reports whether macOS has marked MLX's library as downloaded.
func quarantined(site string) bool {
	_, err := unix.Getxattr(filepath.Join(site, "mlx", "lib", "libmlx.dylib"), "com.apple.quarantine", nil)
	return err == nil
}
