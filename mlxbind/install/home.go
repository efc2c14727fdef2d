package install

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
)

// Home returns the absolute path of the directory that holds everything which
// mlxdyno keeps on this machine: $MLXDYNO_HOME, else the user's data
// directory. It need not exist.
func Home() (string, error) {
	if dir := os.Getenv("MLXDYNO_HOME"); dir != "" {
		abs, err := filepath.Abs(dir)
		if err != nil {
			return "", fmt.Errorf("resolve MLXDYNO_HOME: %w", err)
		}
		return abs, nil
	}
	// The XDG rules: a relative path in the variable is to be ignored.
	if dir := os.Getenv("XDG_DATA_HOME"); runtime.GOOS != "darwin" && filepath.IsAbs(dir) {
		return filepath.Join(dir, "mlxdyno"), nil
	}
	user, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("find the data directory (set MLXDYNO_HOME to name one): %w", err)
	}
	if runtime.GOOS == "darwin" {
		return filepath.Join(user, "Library", "Application Support", "mlxdyno"), nil
	}
	return filepath.Join(user, ".local", "share", "mlxdyno"), nil
}
