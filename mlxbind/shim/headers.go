package shim

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
)

// HeaderKey is a hash over the MLX in a directory as a compiler sees it: where
// it lies, since the library finds libmlx by its path; every header; and the
// size of libmlx itself, which wheels of one version for several backends
// share no more than their headers. It fails when something is missing.
func HeaderKey(mlx string) (string, error) {
	library, err := os.Stat(filepath.Join(mlx, "lib", LibMLX(runtime.GOOS)))
	if err != nil {
		return "", fmt.Errorf("find MLX's library: %w", err)
	}
	h := sha256.New()
	fmt.Fprintf(h, "%d:%s %d", len(mlx), mlx, library.Size())
	files, n := os.DirFS(filepath.Join(mlx, "include")), 0
	// In the order of names, and through links to files, which installers use
	// to keep packages once.
	err = fs.WalkDir(files, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(path, ".h") {
			return err
		}
		text, err := fs.ReadFile(files, path)
		if err != nil {
			return err
		}
		n++
		fmt.Fprintf(h, "%d:%s %d:", len(path), path, len(text))
		h.Write(text)
		return nil
	})
	if err == nil && n == 0 {
		err = errors.New("there are none")
	}
	if err != nil {
		return "", fmt.Errorf("read MLX's headers: %w", err)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// HeaderVersion is the version that the headers in a directory of MLX's are of.
func HeaderVersion(mlx string) (string, error) {
	text, err := os.ReadFile(filepath.Join(mlx, "include", "mlx", "version.h"))
	if err != nil {
		return "", fmt.Errorf("read the version of MLX's headers: %w", err)
	}
	return parseVersion(string(text))
}

var versionDefine = regexp.MustCompile(`(?m)^[ \t]*#[ \t]*define[ \t]+MLX_VERSION_(MAJOR|MINOR|PATCH)[ \t]+(\d{1,9})\b`)

func parseVersion(text string) (string, error) {
	found := map[string]string{}
	for _, m := range versionDefine.FindAllStringSubmatch(text, -1) {
		found[m[1]] = m[2]
	}
	if len(found) != 3 {
		return "", errors.New("read the version of MLX's headers: version.h does not tell it")
	}
	return found["MAJOR"] + "." + found["MINOR"] + "." + found["PATCH"], nil
}
