package tuner

import (
	"cmp"
	"context"
	"fmt"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"time"

	"github.com/mlxdyno/mlxdyno/probe/budget"
	"github.com/mlxdyno/mlxdyno/probe/model"
	"github.com/mlxdyno/mlxdyno/trainer"
	"github.com/mlxdyno/mlxdyno/trainer/data"
	"github.com/mlxdyno/mlxdyno/tuner/predict"
)

// machine is a simulated machine with a training engine: known constants, noise
// and a limit above which a process dies.
type machine struct {
	facts   model.Facts
	lengths []int32
	perRank float64

	weights   float64 // bytes as stored
	kappa     float64 // bytes an adapter parameter
	alpha     [2]float64
	mu        [2]float64
	formulas  *[budget.Parts]float64 // the peak is so many times what the formulas of each part say, instead of by alpha, mu and floor
	floor     float64                // bytes a position of a stage that rises without attention, for 512 positions at most: the peak is a maximum
	t0        float64
	beta      float64
	gamma     float64
	recompute float64 // time with checkpointing over time without
	noise     float64 // relative, of step times
	kill      float64 // bytes at which the process dies; 0 for never
	leak      int64   // bytes a step
	host      int64
	ragged    int64 // more bytes of host memory in bursts of the data's own batches
	device    string
	shuffles  bool
	compile   float64                                    // seconds on top of the first step of a shape; 0 compiles nothing
	brief     func(trainer.Config) bool                  // ends after the first step, as if compiling took the whole budget
	base      func(bits, batches int) trainer.Eval       // of the untrained base; nil says nothing
	dies      func(calls int) *trainer.Result            // ends the burst before its first step
	busy      func(calls int, rng *rand.Rand) float64    // how many times as long a step takes for other programs' sake; nil is 1
	loss      func(c trainer.Config, step int) float64   // nil is 2
	traces    func(step int) int                         // nil does not count them
	turned    func(p trainer.Plan) (time, stage float64) // by which knobs multiply what steps take beyond the weights; nil is 1
	ahead     float64                                    // share of a peak that is there only because MLX runs ahead, as far as its limit lets it
	slows     float64                                    // each step of a burst takes this share longer than the one before

	update float64 // seconds that the steps which end an update take longer

	ran    map[string]int // job → times
	onCall func(n int) error
	calls  int
	known  map[predict.Condition]budget.Stages
	fail   *trainer.Failure
}

func (m *machine) adapters(rank int) float64 {
	if m.perRank == 0 {
		m.perRank = float64(m.facts.AdapterParameters(1, -1))
	}
	return m.perRank * float64(rank)
}

func (m *machine) loaded(bits int) float64 {
	if bits == 0 {
		return m.weights
	}
	return m.weights * (float64(bits) + 1) / 32
}

func (m *machine) active(c trainer.Config) float64 {
	if m.formulas != nil {
		return m.stages(c).Resident
	}
	return m.loaded(c.Model.Quantize) + m.kappa*0.75*m.adapters(c.Quality.Rank)
}

// stages are of steps that end an update.
func (m *machine) stages(c trainer.Config) budget.Stages {
	of := predict.Condition{Bits: c.Model.Quantize, Rank: c.Quality.Rank, Checkpointing: c.Plan.Checkpointing}
	s, known := m.known[of]
	if !known {
		c.Plan.Accumulation = 1
		s = budget.StagesOf(m.facts, c, m.kind())
		if m.known == nil {
			m.known = map[predict.Condition]budget.Stages{}
		}
		m.known[of] = s
	}
	return s
}

func (m *machine) peak(c trainer.Config, s trainer.Shape) float64 {
	gc := 0
	if c.Plan.Checkpointing {
		gc = 1
	}
	w := predict.WorkOf(s)
	stage := math.Max(w.Positions*m.alpha[gc]+w.Squares*m.mu[gc], math.Min(w.Positions, 512)*m.floor)
	between := m.loaded(c.Model.Quantize) + m.kappa*m.adapters(c.Quality.Rank)
	if m.formulas != nil {
		all := m.stages(c)
		between, stage = all.Resident, 0
		for _, of := range all.At(s) {
			v := of.Fixed
			for p, bytes := range of.Parts {
				v += m.formulas[p] * bytes
			}
			stage = math.Max(stage, v)
		}
	}
	extra := 0.0
	if c.Plan.Accumulation > 1 {
		extra = 4*m.adapters(c.Quality.Rank) + 0.03*stage
	}
	if m.turned != nil {
		_, factor := m.turned(c.Plan)
		stage *= factor
	}
	return between + stage + extra
}

func (m *machine) seconds(c trainer.Config, s trainer.Shape) float64 {
	w := predict.WorkOf(s)
	t := m.t0 + w.Positions*m.beta*(1+m.adapters(c.Quality.Rank)*1.5/float64(m.facts.Parameters)) + w.Squares*m.gamma
	if c.Model.Quantize != 0 {
		t *= 1.5
	}
	if c.Plan.Checkpointing {
		t *= m.recompute
	}
	if m.turned != nil {
		factor, _ := m.turned(c.Plan)
		t *= factor
	}
	return t
}

func (m *machine) Burst(_ context.Context, job trainer.Job) (trainer.Burst, error) {
	m.calls++
	if m.onCall != nil {
		if err := m.onCall(m.calls); err != nil {
			return trainer.Burst{}, err
		}
	}
	id := fmt.Sprint(job.Config, job.Shapes, job.Limits, job.UntilStep)
	if m.ran == nil {
		m.ran = map[string]int{}
	}
	m.ran[id]++
	h := fnv.New64a()
	h.Write([]byte(id))
	rng := rand.New(rand.NewPCG(h.Sum64(), 1))

	result := trainer.Result{Outcome: trainer.Finished}
	clock := 2.5 // to load
	if m.busy != nil {
		clock *= m.busy(m.calls, rng)
	}
	limit := cmp.Or(job.Config.Plan.MemoryLimit.Bytes, int64(1)<<60)
	events := []trainer.Event{{Payload: trainer.Hello{Engine: "mlx-lm", Device: trainer.Device{Kind: m.kind()}, Compiled: m.compile > 0}},
		{Payload: trainer.Ready{MemoryLimit: trainer.Some(limit), Memory: trainer.Memory{Active: trainer.Some(int64(m.weights)), Footprint: trainer.Some(int64(m.weights) + m.program())}}}}
	if m.fail != nil {
		result.Outcome, result.Failure = trainer.Failed, m.fail
		result.Elapsed = time.Second
		return trainer.Burst{Job: job, Result: result, Summary: trainer.Summarize(events)}, nil
	}
	if m.dies != nil {
		if r := m.dies(m.calls); r != nil {
			return trainer.Burst{Job: job, Result: *r, Summary: trainer.Summarize(events)}, nil
		}
	}
	if job.Evaluate && m.base != nil {
		clock++
		events = append(events, trainer.Event{Elapsed: time.Duration(clock * float64(time.Second)), Payload: m.base(job.Config.Model.Quantize, job.Config.Schedule.ValBatches)})
	}
	var firstEnded float64
	seen := map[trainer.Shape]bool{}
	settling := map[trainer.Shape]struct {
		steps   int
		seconds float64 // of all but the first
	}{}
	i := -1
	for _, b := range m.batches(job, rng) {
		settled := settling[b.Shape]
		if job.ShapeSeconds > 0 && settled.steps >= trainer.LeastSteps && settled.seconds >= job.ShapeSeconds {
			continue
		}
		i++
		if i > 0 && (job.Budget > 0 && clock-firstEnded > job.Budget.Seconds() || m.brief != nil && m.brief(job.Config)) {
			result.Done = &trainer.Done{Reason: trainer.DoneBudget}
			break
		}
		grown := float64(m.leak) * float64(i+1)
		for _, l := range job.Limits {
			if l.After == i {
				limit = l.MemoryBytes.Or(limit)
			}
		}
		peak, waits := m.limited(m.peak(job.Config, b.Shape)+grown, float64(limit))
		if m.kill > 0 && peak+float64(m.host) > m.kill {
			result.Outcome, result.SuspectedOOM = trainer.Crashed, true
			break
		}
		seconds := m.seconds(job.Config, b.Shape) * math.Exp(m.noise*rng.NormFloat64())
		if (i+1)%max(job.Config.Plan.Accumulation, 1) == 0 {
			seconds += m.update
		}
		seconds *= waits * (1 + m.slows*float64(i))
		if m.busy != nil {
			seconds *= m.busy(m.calls, rng)
		}
		loss, traces := 2.0, trainer.Opt[int]{}
		if m.loss != nil {
			loss = m.loss(job.Config, i)
		}
		if m.traces != nil {
			traces = trainer.Some(m.traces(i))
		}
		if !seen[b.Shape] {
			seen[b.Shape] = true
			seconds += m.compile
		}
		clock += seconds
		if settled.steps++; settled.steps > 1 {
			settled.seconds += seconds
		}
		settling[b.Shape] = settled
		if i == 0 {
			firstEnded = clock
		}
		active := int64(m.active(job.Config)+grown) + int64(4*b.Shape.Batch*b.Shape.Width)
		events = append(events, trainer.Event{Step: i + 1, Elapsed: time.Duration(clock * float64(time.Second)),
			Payload: trainer.Step{Loss: trainer.Float(loss), Traces: traces, Shape: b.Shape, Tokens: b.Tokens, Seconds: seconds, DataSeconds: seconds / 100,
				Memory: trainer.Memory{Active: trainer.Some(active), Peak: trainer.Some(int64(peak)), Cache: trainer.Some[int64](1 << 20), Footprint: trainer.Some(active + m.hostOf(job) + 1<<20)}}})
	}
	result.Elapsed = time.Duration(clock * float64(time.Second))
	return trainer.Burst{Job: job, Result: result, Summary: trainer.Summarize(events)}, nil
}

// program is what the process takes before its first step.
func (m *machine) program() int64 { return m.host / 3 * 2 }

// grows is what is left free for what the rest grows by in real processes.
func (m *machine) grows() int64 { return int64(slackGrows * float64(m.host-m.program())) }

func (m *machine) hostOf(job trainer.Job) int64 {
	if len(job.Shapes) == 0 {
		return m.host + m.ragged
	}
	return m.host
}

// limited is a peak under a limit, and how many times as long the step takes.
func (m *machine) limited(peak, limit float64) (held, longer float64) {
	needed := (1 - m.ahead) * peak
	return max(needed, min(peak, limit)), 1 + 2*max(0, 1-limit/needed)
}

func (m *machine) kind() string { return cmp.Or(m.device, "cpu") }

func (m *machine) batching(c trainer.Config) data.Batching {
	return data.BatchingOf(c, m.kind()).Bounded(m.lengths, nil)
}

func (m *machine) batches(job trainer.Job, rng *rand.Rand) []data.Batch {
	var out []data.Batch
	for _, s := range job.Shapes {
		for range s.Steps {
			out = append(out, data.Batch{Shape: trainer.Shape{Batch: s.Batch, Width: s.Width}, Tokens: s.Positions()})
		}
	}
	if len(job.Shapes) > 0 {
		return out
	}
	plan := data.PlanBatches(m.lengths, m.batching(job.Config))
	order := newTwister(uint32(job.Config.Seed)).permutation
	if m.shuffles { // an engine with an order of its own
		order = rng.Perm
	}
	for len(out) < job.UntilStep {
		for _, i := range order(len(plan)) {
			out = append(out, plan[i])
		}
	}
	return out[:job.UntilStep]
}

// llama is a llama in float32 with two query heads to a key head.
func llama(layers, hidden, intermediate int) model.Facts {
	f := model.Facts{Arch: "llama", Layers: layers, Hidden: hidden, Intermediate: intermediate, Heads: 8, KVHeads: 4, HeadDim: hidden / 8, Vocab: 2048,
		TiedHead: true, MaxPositions: 4096, DType: "F32", Key: "model"}
	add := func(name string, shape ...int) {
		n := 1
		for _, d := range shape {
			n *= d
		}
		f.Tensors = append(f.Tensors, model.Tensor{Name: name, DType: "F32", Shape: shape, Bytes: int64(4 * n)})
		f.Parameters += int64(n)
	}
	add("model.embed_tokens.weight", f.Vocab, f.Hidden)
	for i := range f.Layers {
		at := fmt.Sprintf("model.layers.%d.", i)
		add(at+"self_attn.q_proj.weight", hidden, hidden)
		add(at+"self_attn.k_proj.weight", hidden/2, hidden)
		add(at+"self_attn.v_proj.weight", hidden/2, hidden)
		add(at+"self_attn.o_proj.weight", hidden, hidden)
		add(at+"mlp.gate_proj.weight", intermediate, hidden)
		add(at+"mlp.up_proj.weight", intermediate, hidden)
		add(at+"mlp.down_proj.weight", hidden, intermediate)
	}
	f.WeightBytes = 4 * f.Parameters
	return f
}

// docstrings are row lengths with the long tail of real text.
func docstrings(rows int, seed uint64) (lengths, prompts []int32) {
	rng := rand.New(rand.NewPCG(seed, 2))
	for range rows {
		n := min(int32(math.Exp(4.7+0.8*rng.NormFloat64()))+4, 2500)
		lengths = append(lengths, n)
		prompts = append(prompts, n/3)
	}
	return lengths, prompts
}

// laptop is like two CPU cores with the small model.
func laptop() *machine {
	m := &machine{facts: llama(6, 256, 704), kappa: 16, alpha: [2]float64{174e3, 60e3}, mu: [2]float64{200, 60}, floor: 70e3,
		t0: 0.01, beta: 100e-6, gamma: 20e-9, recompute: 1.4, noise: 0.03, host: 300 << 20}
	m.weights = float64(m.facts.WeightBytes)
	m.lengths, _ = docstrings(600, 1)
	return m
}

// study is a study of m with the given memory.
func study(m *machine, limit int64) Study {
	base := trainer.NewSettings()
	base.Config.Model.Path, base.Config.Data.Path = "model", "data"
	prompts := make([]int32, len(m.lengths))
	for i, n := range m.lengths {
		prompts[i] = n / 3
	}
	return Study{Bursts: m, Base: base, Facts: m.facts, Lengths: m.lengths, Prompts: prompts,
		Tokens: trainer.TokenFiles{Train: "train", Valid: "valid"}, Limit: Limit{Bytes: limit, Source: "test"},
		Keys: Keys{Machine: "simulated", Data: "data", Versions: map[string]string{"mlx": "0"}}}
}
