package report

import (
	"bytes"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/olekukonko/tablewriter/pkg/twwidth"

	"github.com/mlxdyno/mlxdyno/mlxbind/install"
	"github.com/mlxdyno/mlxdyno/probe"
	"github.com/mlxdyno/mlxdyno/probe/check"
	"github.com/mlxdyno/mlxdyno/probe/diagnose"
	"github.com/mlxdyno/mlxdyno/probe/verify"
	"github.com/mlxdyno/mlxdyno/trainer"
	"github.com/mlxdyno/mlxdyno/trainer/run"
	"github.com/mlxdyno/mlxdyno/tuner"
)

var update = flag.Bool("update", false, "write golden files and schemas")

type render = func(io.Writer, Style) error

// pages are all samples, by name.
func pages(t *testing.T) map[string]render {
	env, done := installed()
	return map[string]render{
		"doctor-sick":  func(w io.Writer, s Style) error { return Doctor(w, sick(t), s) },
		"doctor-quick": func(w io.Writer, s Style) error { return Doctor(w, quick(t), s) },
		"tune": func(w io.Writer, s Style) error {
			return Tune(w, tuned(), s, Onward{File: "mlxdyno.yaml", Commands: []string{"mlxdyno train -c mlxdyno.yaml"}})
		},
		"compare":           func(w io.Writer, s Style) error { return Compare(w, compared(), s) },
		"tune-unconfirmed":  func(w io.Writer, s Style) error { return Tune(w, doubted(), s, Onward{}) },
		"tune-quantized":    func(w io.Writer, s Style) error { return Tune(w, quantized(), s, Onward{}) },
		"tune-impossible":   func(w io.Writer, s Style) error { return Tune(w, impossible(), s, Onward{}) },
		"train":             func(w io.Writer, s Style) error { return Train(w, trained(), s, "home/env/bin/python") },
		"train-profiled":    func(w io.Writer, s Style) error { return Train(w, profiled(), s, "python") },
		"train-interrupted": func(w io.Writer, s Style) error { return Train(w, interrupted(), s, "python") },
		"train-failed":      func(w io.Writer, s Style) error { return Train(w, failed(), s, "python") },
		"setup":             func(w io.Writer, s Style) error { return Setup(w, env, done, s) },
		"setup-missing": func(w io.Writer, s Style) error {
			return Setup(w, nil, install.Report{State: install.Missing, Before: "there is none in home", Log: "home/setup.log"}, s)
		},
		"verify": func(w io.Writer, s Style) error { return Verify(w, verified(), s) },
		"doctor-monitor": func(w io.Writer, s Style) error {
			s.Verbose = true
			return Doctor(w, diagnose.Report{Schema: diagnose.Schema, Healthy: true, Snapshot: snapshot(t, "linux-container")}, s)
		},
		"runs":      func(w io.Writer, s Style) error { return Runs(w, listed(), s) },
		"runs-none": func(w io.Writer, s Style) error { return Runs(w, nil, s) },
	}
}

// TestChecksPage holds docs/checks.md to the stories; -update writes it.
func TestChecksPage(t *testing.T) {
	var b bytes.Buffer
	if err := Checks(&b, check.Stories()); err != nil {
		t.Fatal(err)
	}
	golden(t, filepath.Join("..", "docs", "checks.md"), b.String())
}

// Every system that MLX runs on has commands to watch with.
func TestWatches(t *testing.T) {
	for os, want := range map[string]string{"darwin": "vm_stat 5", "linux": "vmstat 5", "plan9": "mlxdyno report last"} {
		var b bytes.Buffer
		r := diagnose.Report{Schema: diagnose.Schema, Snapshot: probe.Snapshot{Host: probe.Host{OS: os}}}
		if err := Doctor(&b, r, Style{Verbose: true}); err != nil || !strings.Contains(b.String(), "$ "+want) {
			t.Errorf("%s: no %q (%v) in\n%s", os, want, err, b.String())
		}
		b.Reset()
		if err := Doctor(&b, r, Style{}); err != nil || strings.Contains(b.String(), want) {
			t.Errorf("%s: said without being asked (%v)", os, err)
		}
	}
}

func verified() verify.Comparison {
	return verify.Compare(
		verify.Side{Name: "before.json", Kind: "doctor", PeakBytes: trainer.Some[int64](11e9), LimitBytes: trainer.Some[int64](10e9), TokensPerSecond: trainer.Some(412.4),
			Pressed: trainer.Some(true), Pressure: "2.00 GB were swapped out while trial steps ran", Died: trainer.Some(false), LeakBytesAStep: trainer.Some(524288.0)},
		verify.Side{Name: "home/runs/20260302-093000-ab12", Kind: "train", PeakBytes: trainer.Some[int64](8e9), LimitBytes: trainer.Some[int64](10e9), TokensPerSecond: trainer.Some(380.0),
			Pressed: trainer.Some(false), Died: trainer.Some(false), LeakUnknown: "a training's steps have many shapes; mlxdyno doctor judges leaks"})
}

// quantized gave up bits for a limit, with which the defaults would not fit.
func quantized() tuner.Report {
	r := tuned()
	r.Baseline, r.Expected.TokensError = nil, 0.4
	r.Start.Config, r.Start.Fits = r.Config, false
	r.Config.Model.Quantize, r.Config.Quality.Rank, r.Data.RowsCut = 4, 16, 0
	r.Quality = []tuner.BaseLoss{{Bits: 0, Loss: trainer.Some(2.5)}, {Bits: 4, Loss: trainer.Some(2.54), Cost: trainer.Some(0.04)}}
	r.More = &tuner.More{Candidate: tuner.Candidate{Point: tuner.Point{Rank: 16, Batch: 8, Accumulation: 1, MaxSeqLength: 513}}, LimitBytes: 20e9, Speedup: 1.4}
	return r
}

func impossible() tuner.Report {
	return tuner.Report{Schema: tuner.Schema, Verdict: tuner.Impossible, Problem: "the smallest candidate needs 5.1 GB and the limit is 4.0 GB",
		Hint: "allow quantization with --min-bits 4", Limit: tuner.Limit{Bytes: 4e9, Source: "cgroup"},
		Space: tuner.Space{Enumerated: 12, Infeasible: []tuner.Infeasible{{Why: "predicted peak above the limit", Count: 12}}}}
}

func rendered(t *testing.T, f render, s Style) string {
	t.Helper()
	var b bytes.Buffer
	if err := f(&b, s); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestGolden(t *testing.T) {
	for name, f := range pages(t) {
		t.Run(name, func(t *testing.T) {
			golden(t, filepath.Join("testdata", name+".txt"), rendered(t, f, Style{}))
		})
	}
	for name, s := range map[string]Style{"doctor-sick": {ASCII: true, Width: 80}, "tune": {Verbose: true, Width: 120}, "train": {Color: true}} {
		t.Run(name+" styled", func(t *testing.T) {
			golden(t, filepath.Join("testdata", name+"-styled.txt"), rendered(t, pages(t)[name], s))
		})
	}
}

var escapes = regexp.MustCompile(`\x1b\[[0-9;]*m`)

// TestLayout holds for every page in every style: lines fit, nothing trails,
// colour adds nothing but colour, ASCII is ASCII.
func TestLayout(t *testing.T) {
	for name, f := range pages(t) {
		for _, width := range []int{1, 80, 97, 120, 4000} {
			for _, verbose := range []bool{false, true} {
				s := Style{Width: width, Verbose: verbose}
				text := rendered(t, f, s)
				checkLayout(t, name, text, s)
				s.Color = true
				if got := escapes.ReplaceAllString(rendered(t, f, s), ""); got != text {
					t.Errorf("%s, width %d: with colour the text is another one", name, width)
				}
				s.ASCII = true
				for i, line := range strings.Split(rendered(t, f, s), "\n") {
					if strings.ContainsFunc(line, func(r rune) bool { return r > 0x7e }) {
						t.Errorf("%s line %d is not ASCII: %s", name, i+1, line)
					}
				}
			}
		}
	}
}

func checkLayout(t interface {
	Helper()
	Errorf(string, ...any)
}, name, text string, s Style) {
	t.Helper()
	for i, line := range strings.Split(text, "\n") {
		if strings.TrimRight(line, " ") != line {
			t.Errorf("%s, width %d, line %d ends in blanks: %q", name, s.Width, i+1, line)
		}
		// Command lines and logs are never broken.
		start := strings.TrimLeft(line, " ")
		verbatim := strings.HasPrefix(start, "$ ") || strings.HasPrefix(start, "│ ") || strings.HasPrefix(start, "| ")
		if w := twwidth.Width(line); w > s.width() && !verbatim {
			t.Errorf("%s, width %d, line %d is %d wide: %q", name, s.Width, i+1, w, line)
		}
	}
	if strings.Contains(text, "\n\n\n") || strings.HasPrefix(text, "\n") || !strings.HasSuffix(text, "\n") || strings.HasSuffix(text, "\n\n") {
		t.Errorf("%s: empty lines are not where they belong:\n%s", name, text)
	}
}

func TestDocumentsFollowTheirSchemas(t *testing.T) {
	env, done := installed()
	for _, c := range []struct {
		name, schema string
		document     any
	}{
		{"sick", "doctor", sick(t)},
		{"quick", "doctor", quick(t)},
		{"zero doctor", "doctor", diagnose.Report{Schema: diagnose.Schema}},
		{"verified", "verify", verified()},
		{"tuned", "tune", tuned()},
		{"doubted", "tune", doubted()},
		{"compared", "compare", compared()},
		{"impossible", "tune", impossible()},
		{"trained", "train", trained()},
		{"profiled", "train", profiled()},
		{"interrupted", "train", interrupted()},
		{"failed", "train", failed()},
		{"diverged", "train", run.Report{Schema: run.Schema, Losses: []run.LossPoint{{Loss: trainer.Float(nan)}}}},
		{"installed", "setup", SetupDocument{SetupSchema, env, done}},
		{"not installed", "setup", SetupDocument{Schema: SetupSchema}},
		{"runs", "runs", RunsDocument{RunsSchema, listed()}},
		{"linux", "snapshot", snapshot(t, "linux")},
		{"container", "snapshot", snapshot(t, "linux-container")},
		{"mac", "snapshot", snapshot(t, "mac-m3-ultra-96gb")},
		{"error", "error", Error{ErrorSchema, "model.not-found", "there is no model at x", "download it", 2}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var b bytes.Buffer
			if err := JSON(&b, c.document); err != nil {
				t.Fatal(err)
			}
			if err := Validate(c.schema, b.Bytes()); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestValidateRefuses(t *testing.T) {
	for _, c := range []struct{ name, schema, document string }{
		{"another schema", "error", `{"schema":"mlxdyno/error/2","code":"x","message":"y","exit_status":2}`},
		{"a missing member", "error", `{"schema":"mlxdyno/error/1","code":"x","exit_status":2}`},
		{"a wrong type", "error", `{"schema":"mlxdyno/error/1","code":"x","message":"y","exit_status":"2"}`},
		{"an unknown state", "runs", `{"schema":"mlxdyno/runs/1","runs":[{"dir":"x","state":"lost","steps_done":0,"steps":0,"bytes":0}]}`},
		{"two documents", "error", `{} {}`},
		{"no schema of that name", "horoscope", `{}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := Validate(c.schema, []byte(c.document)); err == nil {
				t.Error("accepted")
			}
		})
	}
}

func TestStyleFor(t *testing.T) {
	tty := func(pairs ...string) func(string) string {
		return func(name string) string {
			for i := 0; i < len(pairs); i += 2 {
				if pairs[i] == name {
					return pairs[i+1]
				}
			}
			return ""
		}
	}
	file, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for _, c := range []struct {
		name, colour string
		env          func(string) string
		color, ascii bool
	}{
		{"a file is not coloured", "auto", tty("LANG", "en_US.UTF-8"), false, false},
		{"always", "always", tty("LANG", "C.utf8", "NO_COLOR", "1"), true, false},
		{"never", "never", tty(), false, true},
		{"LC_ALL wins", "auto", tty("LC_ALL", "C", "LANG", "en_US.UTF-8"), false, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := StyleFor(file, c.colour, false, c.env)
			if s.Color != c.color || s.ASCII != c.ascii || s.Width != usual {
				t.Errorf("%+v", s)
			}
		})
	}
}

func TestStatusOffATerminal(t *testing.T) {
	var b bytes.Buffer
	now := sampleTime
	s := NewStatus(&b, Style{}, false, func() time.Time { return now })
	for step := range 100 {
		s.Show(run.Progress{Step: step, Steps: 100, Loss: trainer.Some(trainer.Float(3))})
		now = now.Add(200 * time.Millisecond)
	}
	s.Say("a checkpoint was written")
	s.Done()
	if n := strings.Count(b.String(), "step "); n != 10 {
		t.Errorf("%d lines for 100 steps in 20 s, want one every 10 %%:\n%s", n, b.String())
	}
	if !strings.HasPrefix(b.String(), "step 0/100 · loss 3.000\n") {
		t.Errorf("first line is not as it should be:\n%s", b.String())
	}
	b.Reset()
	for range 4 {
		s.Show(run.Progress{Step: 99, Steps: 1000})
		now = now.Add(6 * time.Second)
	}
	if n := strings.Count(b.String(), "\n"); n != 2 {
		t.Errorf("%d lines in 18 s without progress, want the first and one after 10 s:\n%s", n, b.String())
	}
}

func TestStatusOnATerminal(t *testing.T) {
	var b bytes.Buffer
	now := sampleTime
	s := NewStatus(&b, Style{Width: 80}, true, func() time.Time { return now })
	progress := run.Progress{Step: 1, Steps: 3, Segment: 1, Loss: trainer.Some(trainer.Float(2.5)), ValLoss: trainer.Some(trainer.Float(2.75)),
		TokensPerSecond: trainer.Some(1234.5), Memory: trainer.Memory{Peak: trainer.Some[int64](6_240_000_000)}, ETA: trainer.Some(90 * time.Minute)}
	s.Show(progress)
	s.Show(progress) // too soon
	progress.Step = 3
	s.Show(progress) // the last one is shown at once
	s.Say("done")
	s.Done()
	clear := "\r\x1b[K"
	rest := " · loss 2.500 · 1,235 tok/s · 1 h 30 min left · peak 6.24 GB" // the rest does not fit
	want := clear + "step 1/3" + rest + clear + "step 3/3" + rest + clear + "done\n"
	got := b.String()
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	for line := range strings.SplitSeq(got, clear) {
		if twwidth.Width(line) > 79 {
			t.Errorf("%d columns in a line of 80", twwidth.Width(line))
		}
	}
}

type brokenPipe struct{}

func (brokenPipe) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

func TestWriteErrorsAreReported(t *testing.T) {
	for name, f := range pages(t) {
		if err := f(brokenPipe{}, Style{}); !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("%s: error %v", name, err)
		}
	}
	if err := JSON(brokenPipe{}, Error{}); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("JSON: error %v", err)
	}
	if err := JSON(io.Discard, nan); err == nil {
		t.Error("JSON writes a NaN")
	}
}
