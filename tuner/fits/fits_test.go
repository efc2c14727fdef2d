package fits

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/mlxdyno/mlxdyno/probe/budget"
	"github.com/mlxdyno/mlxdyno/probe/model"
	"github.com/mlxdyno/mlxdyno/trainer"
	"github.com/mlxdyno/mlxdyno/tuner/predict"
)

// llama makes the facts of a llama without a file.
func llama(hidden, inner, layers, heads, kvHeads, vocab, positions int, dtype string) model.Facts {
	f := model.Facts{Path: "llama", Arch: "llama", Layers: layers, Hidden: hidden, Intermediate: inner, Heads: heads, KVHeads: kvHeads,
		HeadDim: hidden / heads, Vocab: vocab, DType: dtype, MaxPositions: positions}
	width := int64(4)
	if dtype != "F32" {
		width = 2
	}
	add := func(name string, out, in int) {
		b := int64(out) * int64(in) * width
		f.Tensors = append(f.Tensors, model.Tensor{Name: name + ".weight", DType: dtype, Shape: []int{out, in}, Bytes: b})
		f.Parameters += int64(out) * int64(in)
		f.WeightBytes += b
	}
	add("model.embed_tokens", vocab, hidden)
	add("lm_head", vocab, hidden)
	kv := kvHeads * f.HeadDim
	for i := range layers {
		p := fmt.Sprintf("model.layers.%d.", i)
		add(p+"self_attn.q_proj", hidden, hidden)
		add(p+"self_attn.k_proj", kv, hidden)
		add(p+"self_attn.v_proj", kv, hidden)
		add(p+"self_attn.o_proj", hidden, hidden)
		add(p+"mlp.gate_proj", inner, hidden)
		add(p+"mlp.up_proj", inner, hidden)
		add(p+"mlp.down_proj", hidden, inner)
	}
	return f
}

func llama8B() model.Facts { return llama(4096, 14336, 32, 32, 8, 128256, 131072, "BF16") }

func answer(t interface {
	Helper()
	Fatal(...any)
}, q Question) *Report {
	t.Helper()
	r, err := Answer(q)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *Report) at(bits, rank int, gc bool) *Condition {
	i := slices.IndexFunc(r.Conditions, func(c Condition) bool {
		return c.Bits == bits && c.Rank == rank && c.Checkpointing == gc
	})
	if i < 0 {
		return nil
	}
	return &r.Conditions[i]
}

// samples are steps of a llama as a machine with noise might show them: fits of
// their own for each condition, which noise makes disagree.
func samples(t *rapid.T, conditions []predict.Condition) []Sample {
	var out []Sample
	for _, c := range conditions {
		for _, s := range []trainer.Shape{{Batch: 1, Width: 65}, {Batch: 1, Width: 257}, {Batch: 4, Width: 129}, {Batch: 4, Width: 513}, {Batch: 8, Width: 257}} {
			noise := rapid.Float64Range(0.9, 1.1).Draw(t, "noise")
			w := predict.WorkOf(s)
			peak := 1e9 + 2e5*w.Positions + 100*w.Squares
			if c.Checkpointing {
				peak = 1e9 + 5e4*w.Positions
			}
			out = append(out, Sample{Condition: c, Shape: s, PeakBytes: peak * noise, Seconds: 0.01 + 1e-4*w.Positions*noise})
		}
	}
	return out
}

func question(t *rapid.T) Question {
	heads := rapid.SampledFrom([]int{2, 4, 8}).Draw(t, "heads")
	hidden := 64 * heads
	q := Question{
		Facts: llama(hidden, hidden*rapid.IntRange(2, 4).Draw(t, "inner"), rapid.IntRange(1, 8).Draw(t, "layers"), heads, heads/2, rapid.SampledFrom([]int{512, 8192, 128256}).Draw(t, "vocab"),
			rapid.SampledFrom([]int{0, 40, 2048, 8192}).Draw(t, "positions"), rapid.SampledFrom([]string{"F32", "BF16"}).Draw(t, "dtype")),
		Config: trainer.DefaultConfig(), Machine: "test", Device: rapid.SampledFrom([]string{"", "cpu", "metal", "cuda"}).Draw(t, "device"),
		Limit: Limit{Bytes: rapid.Int64Range(1e8, 5e10).Draw(t, "limit"), Source: "test"},
		Ranks: []int{8, 16, 64},
	}
	q.Config.Engine = rapid.SampledFrom([]string{trainer.EngineNative, trainer.EngineMLXLM}).Draw(t, "engine")
	q.Config.Plan.Keep = rapid.SampledFrom([]string{"", trainer.KeepResults}).Draw(t, "keep")
	q.Config.Plan.Accumulation = rapid.IntRange(1, 2).Draw(t, "accumulation")
	if rapid.Bool().Draw(t, "measured") {
		conditions := []predict.Condition{{Rank: 8}, {Rank: 8, Checkpointing: true}}
		for _, more := range []predict.Condition{{Rank: 64}, {Bits: 8, Rank: 8}, {Bits: 4, Rank: 8}, {Bits: 4, Rank: 64}} {
			if rapid.Bool().Draw(t, "more") {
				conditions = append(conditions, more)
			}
		}
		q.Samples = samples(t, conditions)
	}
	return q
}

// never fails where a allows more than b.
func never(t *rapid.T, what string, a, b *Condition) {
	t.Helper()
	for i := range a.Longest {
		if a.Longest[i].Length > b.Longest[i].Length {
			t.Errorf("%s: rows of %d in a batch of %d, else of %d", what, a.Longest[i].Length, a.Longest[i].Batch, b.Longest[i].Length)
		}
	}
	for i := range a.Largest {
		if a.Largest[i].Batch > b.Largest[i].Batch {
			t.Errorf("%s: %d rows of %d tokens, else %d", what, a.Largest[i].Batch, a.Largest[i].Length, b.Largest[i].Batch)
		}
	}
}

func TestWhatFitsIsMonotone(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		q := question(t)
		r := answer(t, q)
		less := q
		less.Limit.Bytes = int64(float64(q.Limit.Bytes) * rapid.Float64Range(0.1, 1).Draw(t, "less"))
		small := answer(t, less)
		for i := range r.Conditions {
			c := &r.Conditions[i]
			never(t, "less memory", &small.Conditions[i], c)
			if c.Rank != 8 {
				below := map[int]int{16: 8, 64: 16}[c.Rank]
				never(t, fmt.Sprintf("rank %d against %d", c.Rank, below), c, r.at(c.Bits, below, c.Checkpointing))
			}
			if c.Bits == 8 {
				never(t, "8 bits against 4", c, r.at(4, c.Rank, c.Checkpointing))
			}
			for k := 1; k < len(c.Longest); k++ {
				if c.Longest[k].Length > c.Longest[k-1].Length {
					t.Errorf("longer rows in a batch of %d than of %d", c.Longest[k].Batch, c.Longest[k-1].Batch)
				}
			}
		}
	})
}

// TestBordersAreBorders holds every place against the bound itself: what is named
// fits, and one more does not.
func TestBordersAreBorders(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		q := question(t)
		r := answer(t, q)
		settled, err := q.settled()
		if err != nil {
			t.Fatal(err)
		}
		o, room := newOracle(settled), float64(settled.room())
		for _, c := range r.Conditions {
			condition := predict.Condition{Bits: c.Bits, Rank: c.Rank, Checkpointing: c.Checkpointing}
			check := func(what string, p Place, more trainer.Shape) {
				if p.Fits() != (float64(p.BoundBytes) <= room) {
					t.Errorf("%s: fits %v, with a bound of %d in %.0f", what, p.Fits(), p.BoundBytes, room)
				}
				if !p.AtMost && o.peak(condition, more).Bound <= room {
					t.Errorf("%s: %d × %d is said to be the most, and %d × %d fits", what, p.Batch, p.Length, more.Batch, more.Width-1)
				}
			}
			for _, p := range c.Longest {
				check("longest", p, shape(p.Batch, p.Length+unit))
			}
			for _, p := range c.Largest {
				check("largest", p, shape(p.Batch+1, p.Length))
			}
		}
	})
}

func TestMeasuredStepsAreUsed(t *testing.T) {
	q := Question{Facts: llama8B(), Config: trainer.DefaultConfig(), Limit: Limit{Bytes: 64e9, Source: "test"}, Sampled: "measured here"}
	plain := answer(t, q)
	if plain.Basis.Kind != Arithmetic || len(plain.NotKnown) == 0 || plain.Conditions[0].Longest[0].SecondsA1000Tokens.Known() {
		t.Errorf("without anything measured: %+v, not known %q", plain.Basis, plain.NotKnown)
	}
	// Steps add a half more than formulas say.
	formulas := budget.StagesOf(q.Facts, q.config(predict.Condition{Rank: 8}), "")
	more := func(s trainer.Shape) float64 {
		var most float64
		for _, stage := range formulas.At(s) {
			sum := stage.Fixed
			for p, bytes := range stage.Parts {
				if budget.Part(p).Known() {
					sum += 1.5 * bytes
				}
			}
			most = max(most, sum)
		}
		return formulas.Resident + most
	}
	for _, s := range []trainer.Shape{{Batch: 1, Width: 129}, {Batch: 2, Width: 129}, {Batch: 1, Width: 513}, {Batch: 4, Width: 513}, {Batch: 4, Width: 257}} {
		w := predict.WorkOf(s)
		q.Samples = append(q.Samples, Sample{Condition: predict.Condition{Rank: 8}, Shape: s, PeakBytes: more(s), Seconds: 0.1 + 1e-3*w.Positions})
	}
	r := answer(t, q)
	c := r.at(0, 8, false)
	if r.Basis.Kind != Calibrated || c.Basis != Calibrated || r.at(0, 8, true).Basis != Arithmetic {
		t.Errorf("basis %+v, of the measured condition %s, of the other %s", r.Basis, c.Basis, r.at(0, 8, true).Basis)
	}
	place := c.Longest[0]
	positions := float64(place.Length)
	if want := more(shape(1, place.Length)); math.Abs(float64(place.PeakBytes)/want-1) > 0.02 {
		t.Errorf("peak %d, measured steps say %.0f", place.PeakBytes, want)
	}
	if want := 1000 * (0.1/positions + 1e-3); math.Abs(place.SecondsA1000Tokens.Or(0)/want-1) > 0.01 {
		t.Errorf("%g s a 1,000 tokens, measured steps say %g", place.SecondsA1000Tokens.Or(0), want)
	}
}

// TestPublishedSpeeds holds the estimate of time against speeds that mlx-lm's users
// published, which are what its error was chosen by.
func TestPublishedSpeeds(t *testing.T) {
	mistral := llama(4096, 14336, 32, 32, 8, 32000, 32768, "BF16")
	for _, tc := range []struct {
		machine       string
		facts         model.Facts
		layers, batch int
		length        int
		bits          int
		least, most   float64 // tokens a second
	}{
		{"M1 Max 32GB", mistral, 4, 1, 256, 0, 250, 250},
		{"M2 Ultra 192GB", llama(4096, 11008, 32, 32, 32, 32000, 4096, "F16"), 16, 4, 128, 0, 475, 475},
		{"M1 Max 32GB", llama8B(), 16, 2, 256, 4, 97, 118},
		{"M3 Max 128GB", llama8B(), -1, 1, 8192, 0, 82, 137},
	} {
		m, err := FindMachine(tc.machine)
		if err != nil {
			t.Fatal(err)
		}
		c := trainer.DefaultConfig()
		c.Quality.Layers = tc.layers
		q, err := Question{Facts: tc.facts, Config: c, Limit: Limit{m.UsableBytes, "test"}, Device: m.Device, Rate: m.Rate(), Bits: []int{tc.bits}}.settled()
		if err != nil {
			t.Fatal(err)
		}
		s := shape(tc.batch, tc.length)
		took := newOracle(q).time(predict.Condition{Bits: tc.bits, Rank: 8}, float64(s.Positions()), predict.WorkOf(s))
		slow, fast := float64(s.Positions())/(took.Seconds+took.Error), float64(s.Positions())/(took.Seconds-took.Error)
		t.Logf("%s: %.0f to %.0f tokens a second, published %.0f to %.0f", tc.machine, slow, fast, tc.least, tc.most)
		if fast < tc.least || slow > tc.most {
			t.Errorf("%s: %.0f to %.0f tokens a second, published %.0f to %.0f", tc.machine, slow, fast, tc.least, tc.most)
		}
	}
}

func TestTrainingOnRows(t *testing.T) {
	q := Question{Facts: llama(512, 1408, 8, 8, 4, 8192, 4096, "F32"), Config: trainer.DefaultConfig(), Limit: Limit{Bytes: 8e9, Source: "test"},
		Device: "metal", Rate: &Rate{Operations: 1e12, Error: 0.4, Source: "test"}, Rows: &Rows{}}
	q.Config.Schedule.Steps = 100
	for i := range 400 {
		q.Rows.Lengths, q.Rows.Prompts = append(q.Rows.Lengths, int32(50+i)), append(q.Rows.Prompts, 10)
	}
	r := answer(t, q)
	if r.Rows.Rows != 400 || r.Rows.Max != 449 || len(r.Training) == 0 {
		t.Fatalf("rows %+v, %d trainings", r.Rows, len(r.Training))
	}
	for _, tr := range r.Training {
		if want := (400 + tr.Batch - 1) / tr.Batch; tr.Steps != want {
			t.Errorf("batch %d: %d steps, want %d to see 400 rows", tr.Batch, tr.Steps, want)
		}
		epoch, whole := tr.EpochSeconds.Or(0), tr.TrainingSeconds.Or(0)
		if math.Abs(whole/epoch-1) > 0.05 { // 100 steps of 4 are one epoch
			t.Errorf("batch %d: an epoch takes %.3g s and its rows %.3g", tr.Batch, epoch, whole)
		}
		if tr.Checkpointing && !tr.Fits {
			t.Errorf("batch %d does not fit 8 GB: %d", tr.Batch, tr.BoundBytes)
		}
	}
}

func TestUnanswerable(t *testing.T) {
	_, err := Answer(Question{Facts: llama8B(), Config: trainer.DefaultConfig()})
	var no *Unanswerable
	if !errors.As(err, &no) || no.Hint == "" {
		t.Errorf("without a limit: %v", err)
	}
}

// BenchmarkAnswer covers millions of combinations.
func BenchmarkAnswer(b *testing.B) {
	q := Question{Facts: llama8B(), Config: trainer.DefaultConfig(), Limit: Limit{Bytes: 48e9, Source: "test"}, Device: "metal"}
	for b.Loop() {
		r := answer(b, q)
		b.ReportMetric(float64(r.Considered), "combinations")
	}
}

func TestVagueTimesAreLeftOut(t *testing.T) {
	q := Question{Facts: llama8B(), Config: trainer.DefaultConfig(), Limit: Limit{Bytes: 64e9, Source: "test"}}
	for i, s := range []trainer.Shape{{Batch: 1, Width: 129}, {Batch: 2, Width: 129}, {Batch: 1, Width: 513}, {Batch: 4, Width: 513}, {Batch: 4, Width: 257}} {
		positions := float64(s.Positions())
		q.Samples = append(q.Samples, Sample{Condition: predict.Condition{Rank: 8}, Shape: s, PeakBytes: 17e9 + 1e6*positions, Seconds: positions * []float64{1e-3, 9e-3}[i%2]})
	}
	r := answer(t, q)
	if v := r.at(0, 8, false).Longest[0].SecondsA1000Tokens; v.Known() || len(r.NotKnown) == 0 {
		t.Errorf("steps that took nine times longer every other time give %v s, not known %q", v, r.NotKnown)
	}
}
