//go:build linux || darwin

package probe

import (
	"errors"

	"golang.org/x/sys/unix"
)

// statfs returns the size of a file system and what an ordinary user may still
// write to it.
func statfs(path string) (total, free int64, err error) {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return 0, 0, err
	}
	size := uint64(st.Bsize)
	total, err1 := blocksToBytes(st.Blocks, size)
	free, err2 := blocksToBytes(st.Bavail, size)
	return total, free, errors.Join(err1, err2)
}
