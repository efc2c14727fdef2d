package mlxbind

import (
	"context"
	"os"
	"os/exec"
	"testing"
	"time"
)

// subjectVariable names the subject that this process is, if it is one.
const subjectVariable = "MLXBIND_TEST_SUBJECT"

// subjects are what must run in a process of its own, which it may ruin. An
// error is a failure, and so is a process that dies or does not end.
var subjects = map[string]func() error{
	"goexit": left, "lifecycle": lived, "reopening": reopened, "member": summed, "survivor": survived, "sleeper": slept,
}

// subject starts this program again as that subject and waits for it.
func subject(t *testing.T, name string, environment ...string) {
	t.Helper()
	if subjects[name] == nil {
		t.Fatalf("there is no subject %q", name)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	c := start(ctx, name, environment...)
	if text, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%v; it did not end: %t\n%.4000s", err, ctx.Err() != nil, text)
	}
}

// start prepares the process that is that subject.
func start(ctx context.Context, name string, environment ...string) *exec.Cmd {
	c := exec.CommandContext(ctx, os.Args[0])
	c.Env = append(append(os.Environ(), subjectVariable+"="+name), environment...)
	return c
}
