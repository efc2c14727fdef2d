package patient

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mlxdyno/mlxdyno/trainer"
)

func at(step int, seconds, resolution float64) Point {
	return Point{Step: step, Elapsed: trainer.Some(Clock{Time: time.Duration(seconds * 1e9), Resolution: time.Duration(resolution * 1e9)})}
}

func TestSpeed(t *testing.T) {
	r := Record{Points: []Point{at(0, 7.66, 0.01), at(10, 84.26, 0.01), at(50, 390.66, 0.01)}}
	for i := range r.Points {
		r.Points[i].StepsPerSecond, r.Points[i].SpeedDigits = trainer.Some(0.1), 0.1
		if i > 0 {
			r.Points[i].TrainedTokens = trainer.Some(int64(100 * r.Points[i].Step))
		}
	}
	s := speed(r)
	if v := s.StepSeconds.Or(0); v < 7.659 || v > 7.661 || s.Printed.Or(0) != 0.1 || s.PrintedDigit != 0.1 || s.TokensAStep.Or(0) != 100 {
		t.Errorf("%+v, want 7.66 s a step", s)
	}
	// A restart: what came before it does not count.
	r.Points = append(r.Points, at(0, 1, 0.01), at(10, 11, 0.01))
	if s := speed(r); s.StepSeconds.Or(0) != 1 {
		t.Errorf("after a restart: %+v, want 1 s a step", s)
	}
	// Our clock counts for more than the patient's.
	for i := range r.Points {
		r.Points[i] = Point{Step: i, At: trainer.Some(time.Duration(i) * 2 * time.Second), Elapsed: trainer.Some(Clock{Time: time.Duration(i) * time.Hour})}
	}
	if s := speed(r); s.StepSeconds.Or(0) != 2 || s.Basis != "steps over time, by our clock" {
		t.Errorf("by our clock: %+v", s)
	}
	if s := speed(Record{Points: []Point{{Step: 3, StepsPerSecond: trainer.Some(4.)}}}); s.StepSeconds.Or(0) != 0.25 || s.Basis != "what it prints, which nothing confirms" {
		t.Errorf("printed only: %+v", s)
	}
	if s := speed(Record{}); s.StepSeconds.Known() || s.Basis != "no two steps have a time" {
		t.Errorf("of nothing: %+v", s)
	}
}

func TestUsage(t *testing.T) {
	var samples []Sample
	for i := range 11 {
		samples = append(samples, Sample{At: time.Duration(i) * time.Second, Processes: 1 + i%2, Footprint: trainer.Some(int64(100 - i)), Threads: trainer.Some(5),
			CPU: trainer.Some(time.Duration(i) * 1500 * time.Millisecond), SwapOut: trainer.Some(int64(7 * i)), Pressure: []string{"normal", "warn", "normal"}[i%3]})
	}
	got := usage(samples)
	want := &Usage{Samples: 11, Seconds: 10, Processes: 2, Highest: trainer.Some(int64(100)), Last: trainer.Some(int64(90)), Threads: trainer.Some(5),
		CPUs: trainer.Some(1.5), SwapOut: trainer.Some(int64(70)), Pressure: "warn"}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(trainer.Opt[int64]{}, trainer.Opt[int]{}, trainer.Opt[float64]{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if usage(nil) != nil {
		t.Error("nothing was sampled, and yet something is said")
	}
}

func TestSampledByStepOrByTime(t *testing.T) {
	r := Record{Source: Command, Points: make([]Point, 3)}
	for i := range 20 {
		r.Samples = append(r.Samples, Sample{At: time.Duration(i) * time.Second, Step: max(i-5, 0), Footprint: trainer.Some(int64(i))})
	}
	rs, bySteps := sampled(r, Footprint)
	if !bySteps || len(rs) != 14 || rs[0].x != 1 || rs[13].y != 19 {
		t.Errorf("%v %v, want 14 readings by step, none of the loading", rs, bySteps)
	}
	for i := range r.Samples {
		r.Samples[i].Step = 1 + i/10
	}
	if rs, bySteps := sampled(r, Footprint); bySteps || len(rs) != 20 || rs[19].x != 19 {
		t.Errorf("%v %v, want 20 readings by second", rs, bySteps)
	}
}

func TestParseHelp(t *testing.T) {
	h := ParseHelp(`Train a model

Usage: your_ai train [OPTIONS] --model <MODEL>

Options:
  -m, --model <MODEL>      Base model; unlike --quantize of others
      --max-memory <GB>    Limit
  [--save-best] [--metrics-file PATH]
  --no-color
See also --other.
`)
	if diff := cmp.Diff([]string{"--model", "-m", "--max-memory", "--save-best", "--metrics-file", "--no-color"}, h.Flags); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if h.Has("--quantize") || !h.Has("--model") {
		t.Error("a flag that a description names is none of its own")
	}
	if diff := cmp.Diff([]string{"--a", "--b"}, Flags([]string{"x", "--a=1", "-c", "--b", "2", "--a", "--", "--d"})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestParseLock(t *testing.T) {
	got, err := ParseLock("version = 4\n\n[[package]]\nname = \"mlx-rs\"\nversion = \"0.25.3\"\n\n[[package]]\nname = \"mlx-rs\"\nversion = \"0.25.1\"\nsource = \"x\"\n\n[[package]]\nname = \"mlx-sys\"\nversion = \"0.2.0+1\"\n")
	if err != nil || got["mlx-rs"] != "0.25.1" || got["mlx-sys"] != "0.2.0+1" {
		t.Errorf("%v %v, want the older of the two", got, err)
	}
	if _, err := ParseLock("# nothing\n"); err == nil {
		t.Error("no package is no error")
	}
	for _, c := range []struct {
		a, b string
		want bool
	}{{"0.25.2", "0.25.3", true}, {"0.25.3", "0.25.3", false}, {"0.9.9", "0.25.3", true}, {"1.0", "0.25.3", false}, {"0.25", "0.25.3", true}, {"0.25.3-rc1", "0.25.3", false}} {
		if Older(c.a, c.b) != c.want {
			t.Errorf("%s older than %s: want %v", c.a, c.b, c.want)
		}
	}
}

func TestParseClaim(t *testing.T) {
	for text, want := range map[string]Claim{
		"8 steps/s":      {"8 steps/s", 8, 8, "steps/s"},
		"~8 steps/s":     {"~8 steps/s", 8, 8, "steps/s"},
		"40-60 it/s":     {"40-60 it/s", 40, 60, "steps/s"},
		" 500 tok/s ":    {"500 tok/s", 500, 500, "tokens/s"},
		"1.5 step per s": {"1.5 step per s", 1.5, 1.5, "steps/s"},
	} {
		if got, err := ParseClaim(text); err != nil || got != want {
			t.Errorf("%q: %+v %v", text, got, err)
		}
	}
	for _, text := range []string{"", "8", "fast", "0 steps/s", "60-40 steps/s", "8 steps/min", "-3 steps/s"} {
		if got, err := ParseClaim(text); err == nil {
			t.Errorf("%q is %+v", text, got)
		}
	}
}

func FuzzGiven(f *testing.F) {
	f.Add("  -m, --model <M>  text\n", "[[package]]\nname = \"a\"\nversion = \"1.2\"\n", "8-9 steps/s")
	f.Fuzz(func(t *testing.T, help, lock, claim string) {
		for _, flag := range ParseHelp(help).Flags {
			if len(flag) < 2 || flag[0] != '-' {
				t.Errorf("flag %q", flag)
			}
		}
		if v, err := ParseLock(lock); (err == nil) != (len(v) > 0) {
			t.Errorf("%v %v", v, err)
		}
		if c, err := ParseClaim(claim); err == nil && !(c.Low > 0 && c.Low <= c.High) {
			t.Errorf("%+v", c)
		}
	})
}
