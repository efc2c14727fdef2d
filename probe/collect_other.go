//go:build !linux && !darwin

package probe

import "errors"

func platformReaders(Request) []reader { return nil }

func gpuKind() string { return "none" }

func statfs(string) (total, free int64, err error) {
	return 0, 0, errors.ErrUnsupported
}
