package probe

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
)

// readDisk describes the file system of home or, while that does not exist, of
// its nearest parent.
func readDisk(home string) Disk {
	const source = "statfs"
	fail := func(path, reason string) Disk {
		return Disk{Path: path, TotalBytes: Unknown[int64](reason, source), FreeBytes: Unknown[int64](reason, source)}
	}
	if home == "" {
		return fail("", "no directory was named")
	}
	path, err := filepath.Abs(home)
	if err != nil {
		return fail(home, err.Error())
	}
	for {
		if _, err = os.Stat(path); !os.IsNotExist(err) || path == filepath.Dir(path) {
			break
		}
		path = filepath.Dir(path)
	}
	total, free, err := statfs(path)
	if err != nil {
		return fail(path, err.Error())
	}
	return Disk{Path: path, TotalBytes: Known(total, source), FreeBytes: Known(free, source)}
}

func blocksToBytes(blocks, size uint64) (int64, error) {
	if size != 0 && blocks > math.MaxInt64/size {
		return 0, fmt.Errorf("the system reports %d blocks of %d bytes, which is impossible", blocks, size)
	}
	return int64(blocks * size), nil
}
