package command

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/mlxdyno/mlxdyno/trainer"
)

var update = flag.Bool("update", false, "write the golden files anew")

func TestMain(m *testing.M) {
	if os.Getenv(sawPatient) != "" {
		patient()
		return
	}
	goleak.VerifyTestMain(m)
}

// golden compares got with a file of testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", name, diff)
	}
}

// shown renders a reading in one line, what it does not say left out.
func shown(r Reading) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d:", r.Line)
	add(&b, "step", r.Step)
	add(&b, "of", r.Steps)
	add(&b, "loss", r.Loss)
	add(&b, "avg", r.AverageLoss)
	add(&b, "val", r.ValLoss)
	add(&b, "val_s", r.ValSeconds)
	add(&b, "lr", r.LearningRate)
	add(&b, "tok/s", r.TokensPerSecond)
	add(&b, "steps/s", r.StepsPerSecond)
	add(&b, "tokens", r.TrainedTokens)
	if c, ok := r.Elapsed.Get(); ok {
		fmt.Fprintf(&b, " elapsed=%v±%v", c.Time, c.Resolution)
	}
	if r.Phase != "" {
		fmt.Fprintf(&b, " phase=%s", r.Phase)
	}
	for _, m := range r.Memory {
		fmt.Fprintf(&b, " %s=%v%s(%v bytes, binary %v)", m.Kind, m.Value, m.Unit, m.Bytes, m.Binary)
	}
	for _, s := range r.Settings {
		fmt.Fprintf(&b, " %s=%q", s.Name, s.Value)
	}
	if n := r.Notice; n != nil {
		fmt.Fprintf(&b, " %s %s %s fatal=%v %q", n.Level, n.Code, n.Fail, n.Fatal, n.Text)
	}
	for _, d := range r.Doubts {
		fmt.Fprintf(&b, " doubt %s: %s", d.Field, d.Why)
	}
	return b.String()
}

func add[T any](b *strings.Builder, name string, v trainer.Opt[T]) {
	if x, ok := v.Get(); ok {
		fmt.Fprintf(b, " %s=%v", name, x)
	}
}

// read reads a log and returns its readings, one a line.
func read(t *testing.T, path string, adapters ...Adapter) (string, LogReport) {
	t.Helper()
	var b strings.Builder
	o := LogOptions{Adapters: adapters, OnReading: func(r Reading) error {
		b.WriteString(shown(r) + "\n")
		return nil
	}}
	report, err := FollowLog(context.Background(), path, false, o)
	if err != nil {
		t.Fatal(err)
	}
	return b.String(), report
}
