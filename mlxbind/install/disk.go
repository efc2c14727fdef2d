package install

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Measured, with some room: wheels, and what is unpacked from them.
const (
	needCPU  = 700e6
	needCUDA = 5.6e9
)

// needBytes is what a set-up for a kind of wheel takes at its peak.
func needBytes(kind string) int64 {
	if strings.HasPrefix(kind, "cuda") {
		return needCUDA
	}
	return needCPU
}

// checkSpace fails when the file system of home has less room than need. It
// does not when the room cannot be told.
func checkSpace(home string, need int64) error {
	var fs unix.Statfs_t
	if err := unix.Statfs(home, &fs); err != nil {
		return nil
	}
	free := int64(min(fs.Bavail*uint64(fs.Bsize), 1<<62))
	if free < need {
		return errDiskFull(fmt.Sprintf("%s has %.1f GB free, and the packages need %.1f GB", home, float64(free)/1e9, float64(need)/1e9))
	}
	return nil
}

func errDiskFull(text string) *Error {
	return &Error{Code: DiskFull, Text: text, Fix: "free some space, or set MLXDYNO_HOME to a directory on a larger disk, then run mlxdyno setup again"}
}

// tryWriting finds out whether dir takes a few megabytes more.
func tryWriting(dir string) error {
	file, err := os.CreateTemp(dir, "space-")
	if err != nil {
		return err
	}
	defer os.Remove(file.Name())
	_, err = file.Write(make([]byte, 8<<20))
	return errors.Join(err, file.Close())
}

// diskFull reports whether a program's words mean that a file could not grow.
func diskFull(said string) bool {
	return pipMeanings[0].pattern.MatchString(said)
}

// explainWrite turns an error of the file system under home into what it means
// for the user; other errors it returns as they are.
func explainWrite(home string, err error) error {
	var told *Error
	switch {
	case errors.As(err, &told):
		return err
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT), errors.Is(err, syscall.EFBIG):
		full := errDiskFull("the disk of " + filepath.Clean(home) + " is full")
		full.Err = err
		return full
	case errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM), errors.Is(err, syscall.EROFS), errors.Is(err, syscall.ENOTDIR), errors.Is(err, syscall.EEXIST):
		return &Error{Code: Unwritable, Text: home + " cannot be written", Err: err, Fix: "make it a writable directory, or set MLXDYNO_HOME to one"}
	}
	return err
}
