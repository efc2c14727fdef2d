package install

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/mlxdyno/mlxdyno/mlxbind/shim"
)

const (
	shimsName = "shim"   // in a managed environment, or under Home for the user's own: a directory a library
	partial   = ".part-" // of a directory in it where a library is being built
	shimsKept = 4        // for programs that run, and those who go back to another version
	compilers = 4        // that may run at once: each takes some 300 MB
)

// bind gives made the shim for the MLX in a directory: the one that is there,
// or a new one.
func (s *setup) bind(ctx context.Context, made *stamp, c compiler, mlx, version string) error {
	return s.stage(StageBinding, func() (string, error) {
		b := build{compiler: c, sources: shim.Sources(), mlx: mlx, version: version, managed: made.Env.Managed, log: s.log, logPath: s.report.Log}
		if b.untested() {
			s.note(fmt.Sprintf("mlx %s is newer than %s, the newest that this mlxdyno was tested with", version, shim.Newest))
		}
		headers, err := b.examine()
		if err != nil {
			return "", err
		}
		parent := s.o.Home
		if made.Env.Managed {
			parent = made.Root
		}
		dir := filepath.Join(parent, shimsName, shim.Key(version, headers, c.identity))
		library := filepath.Join(dir, shim.Library(runtime.GOOS))
		detail := c.version
		// A library has its name when it is whole, never before.
		if _, err := os.Stat(library); err == nil && !s.o.Force {
			detail = "there already"
			now := time.Now()
			_ = os.Chtimes(dir, now, now) // keeps it from being removed first
		} else if err := b.make(ctx, library); err != nil {
			return "", err
		}
		removeOldShims(filepath.Dir(dir))
		made.Env.Shim, made.ShimKey = library, shim.Hash()
		return detail, nil
	})
}

// build is one compilation of the shim.
type build struct {
	compiler compiler
	sources  fs.FS
	mlx      string // directory
	version  string // of MLX
	managed  bool   // MLX is in an environment of ours
	log      io.Writer
	logPath  string
}

// untested reports whether MLX is newer than any that we know.
func (b build) untested() bool {
	_, tested := shim.Supported(b.version)
	return !tested
}

// examine tells an MLX that is not whole before a compiler trips over it, and
// returns the hash of its headers.
func (b build) examine() (string, error) {
	headers, err := shim.HeaderKey(b.mlx)
	if err != nil {
		return "", b.broken("MLX in "+b.mlx+" is not whole", err)
	}
	of, err := shim.HeaderVersion(b.mlx)
	if err != nil {
		return "", b.broken("MLX in "+b.mlx+" is not whole", err)
	}
	if olderThan(b.version, of) || olderThan(of, b.version) {
		return "", b.broken(fmt.Sprintf("mlx %s is installed with the headers of %s", b.version, of), nil)
	}
	return headers, nil
}

func (b build) broken(text string, err error) *Error {
	return &Error{Code: BrokenMLX, Text: text, Err: err, Fix: b.reinstall()}
}

func (b build) reinstall() string {
	if b.managed {
		return "mlxdyno setup --force installs it anew"
	}
	return "in that environment: python -m pip install --force-reinstall mlx and the package of its backend, then run mlxdyno setup again"
}

// make compiles the library beside its place and moves it there when it is
// whole.
func (b build) make(ctx context.Context, library string) error {
	dir := filepath.Dir(library)
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return err
	}
	work, err := os.MkdirTemp(filepath.Dir(dir), partial)
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	if err := os.CopyFS(work, b.sources); err != nil {
		return fmt.Errorf("write the binding's sources: %w", err)
	}
	objects, err := b.compile(ctx, work)
	if err != nil {
		return err
	}
	made := filepath.Join(work, filepath.Base(library))
	if err := b.run(ctx, work, shim.Link(runtime.GOOS, b.mlx, objects, made)); err != nil {
		return err
	}
	if err := syncFile(made); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return os.Rename(made, library)
}

// compile makes the objects, several at once, which takes little more than
// half the time on two cores. The first failure ends the others.
func (b build) compile(ctx context.Context, work string) ([]string, error) {
	units, err := shim.Units(b.sources)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var running sync.WaitGroup
	slots := make(chan struct{}, min(runtime.GOMAXPROCS(0), compilers))
	objects := make([]string, len(units))
	for i, unit := range units {
		objects[i] = filepath.Join(work, unit+".o")
		running.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			if err := b.run(ctx, work, shim.Compile(b.mlx, filepath.Join(work, unit), objects[i])); err != nil {
				cancel(err) // the first to say why counts
			}
		})
	}
	running.Wait()
	return objects, context.Cause(ctx)
}

// run runs the compiler and explains its failure.
func (b build) run(ctx context.Context, work string, arguments []string) error {
	said, err := runCompiler(ctx, slices.Concat(b.compiler.argv, arguments), work, b.log)
	if failed := (*failure)(nil); errors.As(err, &failed) {
		return b.explain(strings.ReplaceAll(said, work+string(filepath.Separator), ""), failed)
	}
	return err
}

var (
	outOfMemory = regexp.MustCompile(`(?i)killed signal|internal compiler error: killed|terminated with signal 9|unable to execute command: killed|virtual memory exhausted|cannot allocate memory|out of memory`)
	undefined   = regexp.MustCompile(`(?i)undefined (?:reference|symbol)|cannot find -lmlx`)
)

// explain turns what a compiler said when it failed into an Error.
func (b build) explain(said string, failed *failure) *Error {
	line := firstError(said)
	told := &Error{Code: CompileFailed, Text: "the compiler could not build the binding to MLX", Fix: "read " + b.logPath + "; if the compiler is at fault, " + otherCompiler(runtime.GOOS) + "; if MLX's files are damaged, " + b.reinstall()}
	switch {
	case diskFull(said):
		return errDiskFull("the disk ran full while the binding to MLX was compiled")
	case outOfMemory.MatchString(said):
		told.Text = "memory ran out while the binding to MLX was compiled"
		told.Fix = "free some memory (a compiler takes about 300 MB for each core), then run mlxdyno setup again"
	case strings.Contains(said, "internal compiler error"):
		told.Text = "the compiler crashed"
		told.Fix = otherCompiler(runtime.GOOS) + "; the log is " + b.logPath
	case b.untested():
		told.Text = fmt.Sprintf("mlx %s is newer than %s, the newest that this mlxdyno knows, and the binding does not compile against it", b.version, shim.Newest)
		told.Fix = fmt.Sprintf("upgrade mlxdyno, or in that environment: python -m pip install 'mlx==%s'; the log is %s", shim.Newest, b.logPath)
	case undefined.MatchString(said):
		told = b.broken("MLX's library lacks what its headers declare", nil)
	case strings.HasPrefix(line, filepath.Join(b.mlx, "include")):
		told = b.broken("MLX's own headers do not compile", nil)
		told.Fix += "; the log is " + b.logPath
	}
	if line == "" {
		told.Err = failed
	} else {
		told.Text += ": " + line
	}
	return told
}

func syncFile(path string) error {
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(file.Sync(), file.Close())
}

// removeOldShims removes what killed builds left in dir, and of the libraries
// those that were not used for longest. One that cannot be removed stays for
// the next time.
func removeOldShims(dir string) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	type library struct {
		path string
		used time.Time
	}
	var libraries []library
	for _, entry := range entries {
		path := filepath.Join(dir, entry.Name())
		if strings.HasPrefix(entry.Name(), partial) {
			_ = os.RemoveAll(path)
		} else if info, err := entry.Info(); err == nil {
			libraries = append(libraries, library{path, info.ModTime()})
		}
	}
	slices.SortFunc(libraries, func(a, b library) int { return cmp.Compare(b.used.UnixNano(), a.used.UnixNano()) })
	for _, old := range libraries[min(len(libraries), shimsKept):] {
		_ = os.RemoveAll(old.path)
	}
}
