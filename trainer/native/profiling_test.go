package native

import (
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mlxdyno/mlxdyno/mlxbind"
	"github.com/mlxdyno/mlxdyno/trainer"
	"github.com/mlxdyno/mlxdyno/trainer/native/decoder"
	"github.com/mlxdyno/mlxdyno/trainer/native/profile"
)

// A worker that profiles learns the same to the last bit, and what it says of
// its steps adds up to them.
func TestProfile(t *testing.T) {
	for name, change := range map[string]func(*trainer.Config){
		"packed": func(*trainer.Config) {},
		"padded": func(c *trainer.Config) { c.Plan.Packing, c.Quality.GradClip = trainer.PackingOff, 0.1 },
		"everything": func(c *trainer.Config) {
			c.Model.Quantize, c.Model.GroupSize, c.Plan.Checkpointing, c.Plan.CheckpointNth, c.Plan.Accumulation = 4, 32, true, 2, 2
			c.Quality.Dropout, c.Quality.Optimizer, c.Plan.LossRows, c.Quality.Layers = 0.1, "adamw", 20, 2
		},
		"compiled": func(c *trainer.Config) { c.Plan.Compile, c.Plan.LossPositions = "on", trainer.LossSupervised },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			j := job(t, plain, 4)
			j.Evaluate = true
			change(&j.Config)
			j.Dir = t.TempDir()
			_, want := finish(t, ours(t), j)
			adapter := func() string {
				b, err := os.ReadFile(filepath.Join(j.Dir, "adapter", "adapters.safetensors"))
				if err != nil {
					t.Fatal(err)
				}
				return string(b)
			}
			learned := adapter()
			j.Dir, j.Mode = t.TempDir(), trainer.Profile
			r, events := runJob(t, t.Context(), ours(t), j, nil)
			if r.Outcome != trainer.Finished {
				t.Fatalf("%+v\n%s", r.Failure, r.LogTail)
			}
			got := trainer.Summarize(events)
			if !slices.Equal(losses(got), losses(want)) || len(got.Steps) != 4 {
				t.Errorf("losses %v instead of %v", losses(got), losses(want))
			}
			if adapter() != learned {
				t.Error("another adapter")
			}
			said := saidOf(events)
			said.addsUp(t, got.Steps)
			for _, phase := range []string{"data", "forward", "loss", "backward", "optimizer"} {
				if !slices.ContainsFunc(said.spans, func(s trainer.Span) bool { return s.Path[0] == phase && s.Seconds > 0 }) {
					t.Errorf("no time of %s", phase)
				}
			}
			var tokens int64
			for _, s := range got.Steps {
				tokens += s.Tokens
			}
			if e := said.end; e.Steps != 4 || e.Tokens != tokens || e.Positions < tokens || !(e.CeilingGFLOPS.Or(0) > 0) {
				t.Errorf("%+v", e)
			}
			// Nothing that a profile says comes after the checkpoint.
			var kinds []string
			for _, e := range events {
				kinds = append(kinds, string(e.Payload.Kind()))
			}
			if slices.Index(kinds, string(trainer.KindProfile)) > slices.Index(kinds, string(trainer.KindCheckpoint)) {
				t.Errorf("order: %v", kinds)
			}
		})
	}
}

// What the recorder does for itself is in no step: neither its time nor its
// memory, nor what is computed between steps.
func TestProfileLeavesItselfOut(t *testing.T) {
	learn(t, func(s *mlxbind.Scope) error {
		const bytes, slept = 64 << 20, 30 * time.Millisecond
		fill := func() {
			if err := s.Child(func(c *mlxbind.Scope) error { return c.Eval(c.AddN(c.Zeros(mlxbind.Float32, bytes/4), 1)) }); err != nil {
				t.Fatal(err)
			}
			time.Sleep(slept)
		}
		rec := profile.New(s, nil)
		before := s.Memory().Active
		for _, inside := range []bool{false, true} {
			rec.Begin(0)
			began := time.Now()
			if inside {
				fill()
			}
			rec.Lap(profile.Place{profile.Forward, profile.Embedding}, nil, 0)
			rec.Aside(fill)
			rec.Lap(profile.Place{profile.Optimizer}, nil, 0)
			wall := time.Since(began)
			step := trainer.Step{Seconds: wall.Seconds()}
			rec.End(&step)
			if !(step.Seconds <= (wall - slept).Seconds()) || inside && !(step.Seconds >= slept.Seconds()) {
				t.Errorf("inside %t: the step took %g s of %s", inside, step.Seconds, wall)
			}
			if grew := step.Memory.Peak.Or(0) - before; inside != (grew >= bytes) {
				t.Errorf("inside %t: the peak is %d bytes above what was there", inside, grew)
			}
			fill()
			rec.Lap(profile.Place{profile.Forward}, nil, 0)
		}
		if spans := rec.Spans(profile.Rates{}); len(spans) != 4 {
			t.Errorf("%+v", spans)
		}
		return s.Err()
	})
}

// said is what a worker says of a profile.
type said struct {
	spans  []trainer.Span
	helds  []trainer.Held
	phases []trainer.Phases
	end    trainer.Profiled
}

func saidOf(events []trainer.Event) (s said) {
	for _, e := range events {
		switch p := e.Payload.(type) {
		case trainer.Span:
			s.spans = append(s.spans, p)
		case trainer.Held:
			s.helds = append(s.helds, p)
		case trainer.Phases:
			s.phases = append(s.phases, p)
		case trainer.Profiled:
			s.end = p
		}
	}
	return s
}

func (s said) addsUp(t *testing.T, steps []trainer.StepRecord) {
	t.Helper()
	near := func(what string, a, b float64) {
		t.Helper()
		if !(math.Abs(a-b) <= 1e-6*b) {
			t.Errorf("%s: %v instead of %v", what, a, b)
		}
	}
	var want, clock, spans float64
	var peak, held int64
	for _, step := range steps {
		want += step.Seconds + step.DataSeconds
		peak = max(peak, step.Memory.Peak.Or(0))
	}
	for _, p := range s.phases {
		for _, v := range p.Seconds {
			clock += v
		}
	}
	paths := map[string]bool{}
	for _, span := range s.spans {
		spans += span.Seconds
		paths[strings.Join(span.Path, "/")] = true
		if n := len(span.Path); n == 0 || n > 4 || span.Path[n-1] == "" || span.Calls < 1 || !(span.Seconds >= 0) {
			t.Errorf("%+v", span)
		}
	}
	for _, h := range s.helds {
		held += h.Bytes
		if h.Bytes <= 0 {
			t.Errorf("%+v", h)
		}
	}
	near("spans", spans, want)
	near("phases", clock, want)
	near("told", s.end.Seconds, want)
	if held != s.end.PeakBytes || s.end.PeakBytes != peak || peak == 0 {
		t.Errorf("held %d bytes at the peak of %d, and the steps' was %d", held, s.end.PeakBytes, peak)
	}
	if len(paths) != len(s.spans) || s.end.Spans != len(s.spans) || s.end.Helds != len(s.helds) || len(s.phases) != len(steps) {
		t.Errorf("%d spans with %d paths and %d helds of %d and %d, %d phases", len(s.spans), len(paths), len(s.helds), s.end.Spans, s.end.Helds, len(s.phases))
	}
}

// work is counted work by phase, block and layer.
type work map[[3]string]float64

// The work that is counted is that of the formulas of a transformer, layer by
// layer, on every family and in every form; and no operation lands in a layer
// that it is not of.
func TestWorkIsThatOfTheFormulas(t *testing.T) {
	for name, shape := range shapes {
		for form, dense := range map[string]bool{"plain": false, "fast": true} {
			for _, bits := range []int{0, 4} {
				t.Run(fmt.Sprint(name, "/", form, "/", bits), func(t *testing.T) {
					shape := shape
					shape.Bits = bits
					dir := modelOf(t, shape)
					learn(t, func(s *mlxbind.Scope) error {
						l := learnerOf(t, s, dir, plainQuality(), learnerOptions{accumulation: 1, blocks: true})
						if dense {
							l.model.Forms = forms(trainer.Plan{}, "cpu", false)
						}
						rec := profile.New(s, nil)
						l.blocks.watched = newWatched(l.blocks, rec)
						b, lengths := rowsOf(33, 1, 33, 33), []int{32, 32}
						if dense { // rows of their own lengths, end to end
							b, lengths = packed(rowsOf(33, 1, 33, 21, 9)), []int{32, 20, 8}
						}
						rec.Begin(0)
						if _, err := l.step(b, true); err != nil {
							return err
						}
						rec.End(&trainer.Step{Shape: b.shape})
						spans := rec.Spans(profile.Rates{FLOPS: 1e9, BytesASecond: 1e9})
						want, got := formulas(l.model, lengths, plainQuality().Rank), work{}
						for _, span := range spans {
							path := append(slices.Clone(span.Path), "", "", "")
							if v, ok := span.GFLOP.Get(); ok {
								got[[3]string(path[:3])] += float64(v) * 1e9
							}
							inPlace(t, path, l.model)
						}
						for _, key := range slices.Collect(maps.Keys(want)) {
							if w := want[key]; !(math.Abs(got[key]-w) <= 1e-9*w) {
								t.Errorf("%v: %.0f FLOP instead of %.0f", key, got[key], w)
							}
							delete(got, key)
						}
						if len(got) > 0 {
							t.Errorf("also counted: %v", got)
						}
						return nil
					})
				})
			}
		}
	}
}

// formulas are 2 for every weight and position; scores and sums of attention 2
// for every pair of positions and feature; each again for the gradient of what
// goes in, and for those of A and B. The first block's inputs need no gradient.
func formulas(m *decoder.Model, lengths []int, rank int) work {
	out, p := work{}, m.Spec
	var positions, pairs float64
	for _, n := range lengths {
		positions += float64(n)
		pairs += float64(n * n)
	}
	for i := range m.Blocks() {
		block := blockName(i)
		for _, a := range m.Adapters[i*len(m.Adapters)/m.Blocks() : (i+1)*len(m.Adapters)/m.Blocks()] {
			layer := decoder.Within(a.Module)
			base, down, up := 2*positions*float64(a.In)*float64(a.Out), 2*positions*float64(a.In*rank), 2*positions*float64(a.Out*rank)
			out[[3]string{"forward", block, layer}] = base + down + up
			back := base + 2*down + 2*up
			if i == 0 && (strings.HasSuffix(layer, ".q_proj") || strings.HasSuffix(layer, ".k_proj") || strings.HasSuffix(layer, ".v_proj") || strings.HasSuffix(layer, ".qkv_proj")) {
				back -= base + down
			}
			out[[3]string{"backward", block, layer}] = back
		}
		attention := 2 * pairs * float64(p.Heads*p.HeadDim)
		out[[3]string{"forward", block, "self_attn"}] = 2 * attention
		out[[3]string{"backward", block, "self_attn"}] = 4 * attention
	}
	head := "lm_head"
	if p.Tied {
		head = "embed_tokens"
	}
	out[[3]string{"loss", "head", head}] = 2 * 2 * positions * float64(p.Hidden*p.Vocab)
	return out
}

// inPlace checks that operations which tell where they are from are there.
func inPlace(t *testing.T, path []string, m *decoder.Model) {
	t.Helper()
	if path[0] != "forward" && path[0] != "backward" || !strings.HasPrefix(path[1], "block") {
		return
	}
	layer, op := path[2], path[3]
	ok := true
	switch op {
	case "Softmax", "Cos", "Sin", "Select":
		ok = layer == "self_attn"
	case "Sigmoid":
		ok = layer == "mlp"
	case "Power": // sigmoids, and softmax in base two
		ok = layer == "mlp" || layer == "self_attn"
	case "Rsqrt", "Square":
		ok = strings.Contains(layer, "norm") || op == "Square" && m.Spec.Gelu
	case "Tanh":
		ok = layer == "mlp" || layer == "self_attn" && m.Spec.AttentionCap > 0
	case "Concatenate": // halves of what is rotated; MLX unpacks some shapes with one too
		ok = layer == "self_attn" || layer == "self_attn.o_proj"
	case "Dequantize":
		ok = strings.HasSuffix(layer, "_proj")
	}
	if !ok {
		t.Errorf("%s", strings.Join(path[:4], " / "))
	}
}
