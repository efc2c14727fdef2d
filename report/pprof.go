package report

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/google/pprof/profile"

	"github.com/mlxdyno/mlxdyno/trainer"
	"github.com/mlxdyno/mlxdyno/trainer/run"
)

// ErrNoProfile says that a training has no profile to draw.
var ErrNoProfile = errors.New("the run has no profile")

// Pprof writes where the time of a training's profiled steps went, in the form
// that go tool pprof reads, compressed as it expects. Each leaf's stack is
// step, phase, block, layer, operation; its label "seconds" says whether they
// are measured or modelled.
func Pprof(w io.Writer, r run.Report) error {
	if r.Profile == nil {
		return ErrNoProfile
	}
	b := newBuilder(r, "step", "time/nanoseconds", "work/megaflop", "written/bytes")
	for _, s := range r.Profile.Spans {
		megaflop := 1000 * max(0, float64(s.GFLOP.Or(0)))
		b.add(s.Path, "seconds", s.Modelled, whole(1e9*s.Seconds), whole(megaflop), max(0, s.Bytes.Or(0)))
	}
	b.p.DurationNanos = whole(1e9 * r.Profile.Seconds)
	return b.write(w)
}

// PprofInUse writes what was held when the profiled steps were at their peak.
// Each leaf's stack is peak, kind, block, layer; its label "bytes" says whether
// they are measured or modelled.
func PprofInUse(w io.Writer, r run.Report) error {
	if r.Profile == nil {
		return ErrNoProfile
	}
	b := newBuilder(r, "peak", "inuse_space/bytes")
	for _, h := range r.Profile.Helds {
		b.add(h.Path, "bytes", h.Modelled, h.Bytes)
	}
	return b.write(w)
}

// builder makes a profile of stacks that are names alone.
type builder struct {
	p    *profile.Profile
	root string
	at   map[string]*profile.Location
}

func newBuilder(r run.Report, root string, types ...string) *builder {
	p := &profile.Profile{Comments: comments(r), TimeNanos: began(r).UnixNano()}
	for _, t := range types {
		name, unit, _ := strings.Cut(t, "/")
		p.SampleType = append(p.SampleType, &profile.ValueType{Type: name, Unit: unit})
	}
	p.DefaultSampleType = p.SampleType[0].Type
	// Every name is told, so that nobody looks for a program to find them in.
	p.Mapping = []*profile.Mapping{{ID: 1, Start: 1, Limit: math.MaxInt64, File: r.Config.Model.Path,
		HasFunctions: true, HasFilenames: true, HasLineNumbers: true, HasInlineFrames: true}}
	return &builder{p: p, root: root, at: map[string]*profile.Location{}}
}

// add adds one leaf. Elements of its path that are empty have no frame.
func (b *builder) add(path []string, label string, modelled bool, values ...int64) {
	how := "measured"
	if modelled {
		how = "modelled"
	}
	s := &profile.Sample{Value: values, Label: map[string][]string{label: {how}}}
	for _, name := range slices.Backward(path) {
		if name = printable(name); name != "" {
			s.Location = append(s.Location, b.location(name))
		}
	}
	s.Location = append(s.Location, b.location(b.root))
	b.p.Sample = append(b.p.Sample, s)
}

func (b *builder) location(name string) *profile.Location {
	if l, ok := b.at[name]; ok {
		return l
	}
	id := uint64(len(b.at) + 1)
	f := &profile.Function{ID: id, Name: name, SystemName: name}
	l := &profile.Location{ID: id, Mapping: b.p.Mapping[0], Address: id, Line: []profile.Line{{Function: f}}}
	b.p.Function, b.p.Location = append(b.p.Function, f), append(b.p.Location, l)
	b.at[name] = l
	return l
}

func (b *builder) write(w io.Writer) error {
	if err := b.p.CheckValid(); err != nil {
		return fmt.Errorf("make profile: %w", err)
	}
	if err := b.p.Write(w); err != nil {
		return fmt.Errorf("write profile: %w", err)
	}
	return nil
}

// comments say what the profile is of; pprof -comments shows them.
func comments(r run.Report) []string {
	p := r.Profile
	out := []string{
		"run " + r.Dir,
		"model " + r.Config.Model.Path,
		"device " + deviceOf(r.Identity),
	}
	for _, name := range slices.Sorted(maps.Keys(r.Identity.Versions)) {
		out = append(out, name+" "+r.Identity.Versions[name])
	}
	ceiling := dash
	if v, ok := p.CeilingGFLOPS.Get(); ok {
		ceiling = number(float64(v)) + " GFLOP/s, a float matrix product measured in the same process"
	}
	out = append(out, "ceiling "+ceiling,
		fmt.Sprintf("%s from step %d, %s, of which %s modelled", count(p.Steps, "step"), p.FromStep, seconds(p.Seconds), seconds(p.ModelledSeconds)),
		fmt.Sprintf("peak %s, of what is listed %s modelled", trainer.FormatBytes(p.PeakBytes), trainer.FormatBytes(p.ModelledPeakBytes)))
	for i := range out {
		out[i] = printable(out[i])
	}
	return out
}

// began is when the profile's process was started.
func began(r run.Report) time.Time {
	if n := r.Profile.Segment; n >= 0 && n < len(r.Segments) {
		return r.Segments[n].Started
	}
	return r.Created
}

// printable makes a name from a worker fit for one line of a terminal.
func printable(s string) string {
	return strings.TrimSpace(strings.ReplaceAll(Style{}.clean(s), "\n", " "))
}

// whole rounds to a number that fits.
func whole(v float64) int64 {
	if !(v > 0) {
		return 0
	}
	return int64(math.Round(min(v, 1<<62)))
}
