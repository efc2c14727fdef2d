package install

import (
	"context"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
)

// installPackages has pip install exactly what text lists into the virtual
// environment at root. pip compiles nothing to bytecode: compiling every
// module takes longer than the whole download, and the self-test, which
// imports what training imports, leaves the bytecode that matters.
func installPackages(ctx context.Context, python, root, text string, log io.Writer, progress func(done int, item string)) error {
	list := filepath.Join(root, "requirements.txt")
	if err := os.WriteFile(list, []byte(text), 0o644); err != nil {
		return err
	}
	// pip unpacks beside the environment: no second file system to run full,
	// and what a killed pip leaves goes with the environment.
	tmp := filepath.Join(root, "tmp")
	if err := os.MkdirAll(tmp, 0o755); err != nil {
		return err
	}
	defer os.RemoveAll(tmp)

	watch := pipWatch{total: len(pins(text)), progress: progress}
	out := &lines{each: watch.line}
	err := runCommand(ctx, command{
		argv: []string{python, "-m", "pip", "install", "--no-deps", "--only-binary", ":all:", "--no-compile", "-r", list},
		env:  pipEnviron(tmp),
		log:  io.MultiWriter(out, log),
	})
	if err == nil || ctx.Err() != nil {
		return err
	}
	return classifyPip(watch.bad, err)
}

// pipEnviron keeps the user's settings (indexes, proxies, certificates, cache)
// but for those that would install elsewhere, other things, or say it in other
// words.
func pipEnviron(tmp string) []string {
	var keep []string
	for _, pair := range (Env{}).Environ() {
		switch name, _, _ := strings.Cut(pair, "="); name {
		case "TMPDIR", "PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_PYTHON", "PIP_CONSTRAINT", "PIP_REQUIREMENT", "PIP_EDITABLE",
			"PIP_REQUIRE_HASHES", "PIP_NO_BINARY", "PIP_ONLY_BINARY", "PIP_PLATFORM", "PIP_PYTHON_VERSION", "PIP_DRY_RUN",
			"PIP_QUIET", "PIP_VERBOSE", "PIP_USER", "PIP_REQUIRE_VIRTUALENV":
		default:
			keep = append(keep, pair)
		}
	}
	return append(keep, "TMPDIR="+tmp, "PIP_USER=0", "PIP_NO_INPUT=1", "PIP_PROGRESS_BAR=off", "PIP_DISABLE_PIP_VERSION_CHECK=1", "PIP_NO_COLOR=1")
}

// pipWatch follows pip's output.
type pipWatch struct {
	done, total int
	progress    func(done int, item string)
	bad         []string // lines that may say why it failed
}

var pipItem = regexp.MustCompile(`^(?:Collecting|Requirement already satisfied:|Processing) (\S+)`)

func (w *pipWatch) line(line string) {
	if m := pipItem.FindStringSubmatch(line); m != nil {
		name, _, _ := strings.Cut(path.Base(m[1]), "==")
		w.done = min(w.done+1, w.total)
		w.progress(w.done, name)
		return
	}
	if strings.HasPrefix(line, "Installing collected packages") {
		w.progress(w.total, "unpacking")
		return
	}
	text := strings.TrimSpace(line)
	if strings.HasPrefix(text, "ERROR:") || strings.HasPrefix(text, "WARNING:") || strings.Contains(text, "Error") || strings.Contains(text, "rrno ") {
		if len(w.bad) < 200 {
			w.bad = append(w.bad, text)
		}
	}
}

// What pip says, and what it means; the first that matches any line counts.
// The order matters: of a registry that cannot be reached pip also says that
// it has no version, and a firewall may deny permission.
var pipMeanings = []struct {
	code      Code
	text, fix string
	pattern   *regexp.Regexp
}{
	{DiskFull, "the disk ran full while packages were installed", "free some space (`pip cache purge` frees pip's own), then run mlxdyno setup again",
		regexp.MustCompile(`No space left on device|Disk quota exceeded|File too large|Errno (28|122|69|27)\]`)},
	{RegistryOutOfReach, "the package registry's certificate was not accepted", "check the system's clock and pip's `cert` setting (pip config list), then run mlxdyno setup again",
		regexp.MustCompile(`CERTIFICATE_VERIFY_FAILED|SSLError|SSLCertVerificationError`)},
	{RegistryOutOfReach, "the package registry could not be reached", "check the network and pip's index and proxy settings (pip config list), then run mlxdyno setup again",
		regexp.MustCompile(`connection broken by|NewConnectionError|ConnectTimeout|ReadTimeout|Read timed out|ProxyError|NameResolutionError|Temporary failure in name resolution|Failed to establish a new connection|Max retries exceeded|Connection (reset|refused|aborted)|IncompleteRead|[Ii]ncomplete-download|IncompleteDownloadError|(40[137]|5\d\d) (Client|Server) Error|HTTP error (40[137]|5\d\d)|Could not fetch URL`)},
	{Unwritable, "pip may not write where the environment is to be", "make the directory writable, or set MLXDYNO_HOME to one that is",
		regexp.MustCompile(`Permission denied|Read-only file system|Errno (13|30)\]`)},
	{PackageNotFound, "the registry has no wheel of a package for this platform and Python", "use macOS 14 or later on Apple silicon, or Linux with glibc 2.35 or later; if pip is set to use an index of your own, that index must have this version",
		regexp.MustCompile(`No matching distribution found|Could not find a version|is not a supported wheel`)},
}

// classifyPip turns a failure of pip into an Error.
func classifyPip(bad []string, cause error) *Error {
	for _, m := range pipMeanings {
		for i, line := range bad {
			if !m.pattern.MatchString(line) {
				continue
			}
			// Of a missing package the last such line is the short one.
			for _, later := range bad[i+1:] {
				if m.code == PackageNotFound && strings.Contains(later, "No matching distribution") {
					line = later
				}
			}
			if _, cause, ok := strings.Cut(line, "connection broken by "); ok {
				line = cause
			}
			return &Error{Code: m.code, Text: fmt.Sprintf("%s (%s)", m.text, clip(strings.TrimPrefix(line, "ERROR: "), 200)), Fix: m.fix}
		}
	}
	if len(bad) > 0 {
		return &Error{Code: PipFailed, Text: "pip failed: " + clip(bad[len(bad)-1], 300), Fix: "read the log, then run mlxdyno setup again"}
	}
	return &Error{Code: PipFailed, Text: "pip failed", Err: cause, Fix: "read the log, then run mlxdyno setup again"}
}

// clip shortens s to about n bytes.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "") + "…"
}
