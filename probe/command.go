package probe

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"
)

// output runs a program of the system and returns what it printed. The program
// gets the C locale, so that numbers read the same everywhere, and is killed
// when ctx ends.
func output(ctx context.Context, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	cmd.WaitDelay = time.Second // for a pipe that a grandchild holds; long enough to read what was said on a busy machine
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return "", fmt.Errorf("%s did not answer in time", name)
	}
	if err != nil {
		if line, _, _ := strings.Cut(strings.TrimSpace(stderr.String()), "\n"); line != "" {
			return "", fmt.Errorf("%s: %w (%s)", name, err, line)
		}
		return "", fmt.Errorf("%s: %w", name, err)
	}
	return string(out), nil
}
