package check

import (
	"fmt"
	"strings"
	"time"

	"github.com/mlxdyno/mlxdyno/probe"
)

// recent is how far back a crash is still news.
const recent = 14 * 24 * time.Hour

// crashes returns those of a kind, the newest first.
func (in Input) crashes(kind probe.CrashKind) []probe.Crash {
	var out []probe.Crash
	for _, c := range in.Snapshot.Crashes {
		if c.Kind == kind && (c.At.IsZero() || in.Snapshot.At.Sub(c.At) <= recent) {
			out = append(out, c)
		}
	}
	return out
}

// trains reports whether a process's name is that of something that trains.
func trains(process string) bool {
	p := strings.ToLower(process)
	for _, name := range []string{"python", "mlx", "your_ai", "lora"} {
		if strings.Contains(p, name) {
			return true
		}
	}
	return false
}

func crashEvidence(c probe.Crash) []probe.Evidence {
	when := "unknown"
	if !c.At.IsZero() {
		when = c.At.Format("2006-01-02 15:04 MST")
	}
	out := []probe.Evidence{said("when", when, "", c.Source), said("the system's words", c.Text, "", c.Source)}
	if c.Process != "" {
		out = append(out, said("process", fmt.Sprintf("%s (%d)", c.Process, c.PID), "", c.Source))
	}
	if n, ok := c.Bytes.Get(); ok {
		out = append(out, size("it held", n, "", c.Source))
	}
	return out
}
