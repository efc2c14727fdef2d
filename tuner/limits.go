package tuner

import (
	"fmt"
	"math"
	"slices"

	"github.com/mlxdyno/mlxdyno/probe/leak"
	"github.com/mlxdyno/mlxdyno/trainer"
)

const (
	limitMargin = 0.08 // of the peak, above it: jitter of longer runs and validation

	stairSteps = 2    // timed under each limit, after one that pays for what changed
	stairMost  = 8    // of them, with accumulation
	usualSteps = 4    // of the usual shape: its steps wait for their host and differ more
	stairShare = 0.15 // of the budget that all of it may take
	free       = 0.03 // longer steps under a limit that costs nothing: what so few steps can tell
	restless   = 0.05 // longer steps of one limit: more says that nothing can be told
	saving     = 0.03 // of the peak that a limit must save
	scarce     = 4    // of such a part of the memory: what takes less is not worth the time
	alike      = 0.01 // higher peak than the lowest: the higher limit does as well
)

// LimitStair is what steps at the widest batch took under a limit of MLX. The first
// and the last of a list are not limited.
type LimitStair struct {
	MemoryBytes  trainer.Opt[int64]   `json:"memory_limit_bytes,omitzero"`
	CacheBytes   trainer.Opt[int64]   `json:"cache_limit_bytes,omitzero"`
	StepSeconds  float64              `json:"step_seconds"`                // the least
	UsualSeconds trainer.Opt[float64] `json:"usual_step_seconds,omitzero"` // of a step of the shape that was watched, where cache limits are lowered
	PeakBytes    int64                `json:"peak_bytes"`                  // the highest
	KeptBytes    int64                `json:"kept_bytes"`                  // the most of freed buffers
}

// stairs is how limits are lowered, one after the other, at the end of a burst.
type stairs struct {
	plan  []LimitStair
	jobs  []trainer.StepLimits
	first int           // the burst's steps before
	each  int           // steps of each
	usual trainer.Shape // run after them, so many steps; none where no cache limit is lowered
}

// of is how many steps each of them has.
func (s stairs) of() int { return s.each + s.usual.Steps }

// stairs plans how limits are lowered at the winner's widest batch, after so many
// steps of a burst. What it costs to keep fewer freed buffers shows at the usual shape:
// an H200's steps of 8 × 673 took 1 % longer without any, and a training of such batches,
// which has few that wide, 22 %. There is nothing to do, with the reason, when the limits are
// set or there is no time.
func (r *run) stairs(f *finalist, usual trainer.Shape, before int) (s stairs, why string) {
	s = stairs{first: before, each: 1 + max(stairSteps, min(f.Accumulation, stairMost))}
	if least := r.Limit.Bytes / scarce; f.peak+f.cache < least && r.Wishes.Prefer != Memory {
		return stairs{}, fmt.Sprintf("with its cache it takes less than a quarter of the %s there are; --prefer memory and --max-memory measure them", trainer.FormatBytes(r.Limit.Bytes))
	}
	kept := f.config.Plan.CacheLimit
	keeps := kept.IsSet && f.cache > 0 && !r.userSet("cache-limit")
	if keeps && usual.Width != f.plan.Widest.Width {
		s.usual = usual
		s.usual.Steps = 1 + max(usualSteps, min(f.Accumulation, stairMost))
	}
	add := func(plan LimitStair, set trainer.StepLimits) {
		set.After = before + len(s.jobs)*s.of()
		s.plan, s.jobs = append(s.plan, plan), append(s.jobs, set)
	}
	add(LimitStair{}, trainer.StepLimits{})
	last := trainer.StepLimits{}
	weights := r.known.WeightBytes(f.Bits)
	if above := f.peak - weights; above > 0 && f.unlimited.Known() && !r.userSet("memory-limit") {
		for _, share := range []float64{0.8, 0.5} {
			n := trainer.Some(weights + int64(share*float64(above)))
			add(LimitStair{MemoryBytes: n}, trainer.StepLimits{MemoryBytes: n})
		}
		last.MemoryBytes = f.unlimited
	}
	if keeps {
		for _, bytes := range []int64{min(kept.Bytes, f.cache) / 4, 0} {
			n := trainer.Some(bytes)
			add(LimitStair{CacheBytes: n}, trainer.StepLimits{CacheBytes: n, MemoryBytes: last.MemoryBytes})
		}
		last.CacheBytes = trainer.Some(kept.Bytes)
	}
	if len(s.plan) == 1 {
		return stairs{}, ""
	}
	add(LimitStair{}, last)
	steps := len(s.plan) * s.each
	took := float64(steps) * r.seconds(f.Point, f.plan.Widest) * max(f.ratio, r.pace)
	if n := len(s.plan) * s.usual.Steps; n > 0 {
		took += float64(n) * r.seconds(f.Point, usual) * max(f.ratio, r.pace)
	}
	if took > min(stairShare*r.Wishes.Budget.Seconds(), r.bursts.left().Seconds()) {
		return stairs{}, fmt.Sprintf("%d steps at the widest batch would take %.3g s; give the search more time with --budget", steps, took)
	}
	return s, ""
}

// shapes are the steps that it takes.
func (s stairs) shapes(widest trainer.Shape) []trainer.Shape {
	one := []trainer.Shape{{Batch: widest.Batch, Width: widest.Width, Steps: s.each}}
	if s.usual.Steps > 0 {
		one = append(one, s.usual)
	}
	return slices.Repeat(one, len(s.plan))
}

// read takes the stairs off the end of a burst; false when it did not get that far, or
// did not say what steps took.
func (s stairs) read(b *trainer.Burst) (out []LimitStair, ok bool) {
	all := b.Summary.Steps
	if len(all) <= s.first || len(s.plan) == 0 {
		return nil, false
	}
	b.Summary.Steps = all[:s.first]
	if len(all) < s.first+len(s.plan)*s.of() {
		return nil, false
	}
	for i, stair := range s.plan {
		stair.StepSeconds = math.Inf(1)
		for _, step := range all[s.jobs[i].After+1:][:s.each-1] {
			peak, ok := step.Memory.Peak.Get()
			kept, too := step.Memory.Cache.Get()
			if !ok || !too {
				return nil, false
			}
			stair.StepSeconds = min(stair.StepSeconds, step.Seconds)
			stair.PeakBytes, stair.KeptBytes = max(stair.PeakBytes, peak), max(stair.KeptBytes, kept)
		}
		if s.usual.Steps > 0 {
			least := math.Inf(1)
			for _, step := range all[s.jobs[i].After+s.each+1:][:s.usual.Steps-1] {
				least = min(least, step.Seconds)
			}
			stair.UsualSeconds = trainer.Some(least)
		}
		out = append(out, stair)
	}
	return out, true
}

// lowering is what stairs came to, in words: of each limit why it is set, or else why
// it is not.
type lowering struct{ memory, needs, cache, keeps string }

// flight is a list of stairs with what steps took where nothing was limited.
type flight struct {
	stairs      []LimitStair
	first, last LimitStair
}

// longer is by how much longer than without a limit steps at the widest batch took.
func (t flight) longer(s LimitStair) float64 {
	return s.StepSeconds/min(t.first.StepSeconds, t.last.StepSeconds) - 1
}

// usually is the same, of those at the usual shape, too.
func (t flight) usually(s LimitStair) float64 {
	least := min(t.first.UsualSeconds.Or(0), t.last.UsualSeconds.Or(0))
	if !(least > 0) {
		return t.longer(s)
	}
	return max(t.longer(s), s.UsualSeconds.Or(0)/least-1)
}

// costless are the stairs down to the last that costs nothing.
func (t flight) costless(longer func(LimitStair) float64) []LimitStair {
	if n := slices.IndexFunc(t.stairs, func(s LimitStair) bool { return longer(s) > free }); n >= 0 {
		return t.stairs[:n]
	}
	return t.stairs
}

// lower sets the limits of MLX as low as they cost nothing, where that saves memory.
func (r *run) lower(f *finalist, s steadiness, all []LimitStair) {
	r.report.Limits = all
	of := func(limit func(LimitStair) trainer.Opt[int64]) flight {
		t := flight{first: all[0], last: all[len(all)-1]}
		for _, s := range all {
			if limit(s).Known() {
				t.stairs = append(t.stairs, s)
			}
		}
		return t
	}
	memory := of(func(s LimitStair) trainer.Opt[int64] { return s.MemoryBytes })
	cache := of(func(s LimitStair) trainer.Opt[int64] { return s.CacheBytes })
	if apart := max(memory.longer(memory.first), memory.longer(memory.last)); apart > restless {
		f.lower.needs = fmt.Sprintf("how low it may be could not be told: steps under one limit differed by %.0f %%", 100*apart)
		if len(cache.stairs) > 0 {
			f.lower.keeps = "what keeping less would cost could not be told, as of memory-limit"
		}
		return
	}
	if len(memory.stairs) > 0 {
		r.lowerMemory(f, s, memory)
	}
	if len(cache.stairs) > 0 {
		f.lowerCache(cache)
	}
}

// lowerMemory takes the highest of the memory limits that cost nothing and save as much
// as the lowest of them.
func (r *run) lowerMemory(f *finalist, s steadiness, t flight) {
	from, down := max(t.first.PeakBytes, t.last.PeakBytes), t.costless(t.longer)
	at, chosen := from, -1
	for i, s := range slices.Backward(down) {
		if s.PeakBytes <= int64(float64(at)*(1+alike)) {
			at, chosen = min(at, s.PeakBytes), i
		}
	}
	below := ""
	if len(down) < len(t.stairs) {
		s := t.stairs[len(down)]
		below = fmt.Sprintf("; under %s they take %.0f %% longer", trainer.FormatBytes(s.MemoryBytes.Or(0)), 100*t.longer(s))
	}
	switch {
	case s.leak.State == leak.Leaking:
		f.lower.needs = "not lowered, as what leaks has to fit, too"
	case chosen < 0 || float64(from-down[chosen].PeakBytes) < saving*float64(from):
		f.lower.needs = "lower ones save no memory, or cost time" + below
	default:
		c := down[chosen]
		f.config.Plan.MemoryLimit = trainer.LimitOf(c.MemoryBytes.Or(0))
		f.lower.memory = fmt.Sprintf("measured: steps at the widest batch take as long under it (%+.1f %%) and %s instead of %s%s",
			100*t.longer(c), trainer.FormatBytes(c.PeakBytes), trainer.FormatBytes(from), below)
		f.settle(c.PeakBytes)
		if p := r.peakAt(f.Point, f.plan.Widest); p > 0 {
			f.peakBias = float64(f.peak) / p
		}
	}
}

// lowerCache takes the lowest of the cache limits that cost nothing.
func (f *finalist) lowerCache(t flight) {
	down, from := t.costless(t.usually), max(t.first.KeptBytes, t.last.KeptBytes)
	if len(down) == 0 {
		s := t.stairs[0]
		f.lower.keeps = fmt.Sprintf("steps that keep at most %s take %.0f %% longer", trainer.FormatBytes(s.CacheBytes.Or(0)), 100*t.usually(s))
		return
	}
	c := down[len(down)-1]
	if float64(from-c.KeptBytes) < saving*float64(t.first.PeakBytes) {
		f.lower.keeps = fmt.Sprintf("at most %s is kept of freed buffers", trainer.FormatBytes(from))
		return
	}
	f.config.Plan.CacheLimit = trainer.LimitOf(c.CacheBytes.Or(0))
	f.cache = c.KeptBytes
	f.lower.cache = fmt.Sprintf("measured: steps that keep no more of freed buffers take as long (%+.1f %%); %s less is kept",
		100*t.usually(c), trainer.FormatBytes(from-c.KeptBytes))
}

// settle makes a lower peak the finalist's, under a limit that holds it there.
func (f *finalist) settle(peak int64) {
	f.jitter = int64(float64(f.jitter) * float64(peak) / float64(f.peak))
	f.peak, f.PeakBytes, f.PeakErrorBytes = peak, peak, f.jitter
}

// decideLimits sets MLX's limits. The memory limit is a guideline above which
// MLX waits and drops its cache: above the measured peak it costs nothing, and
// it keeps the allocator from spreading over memory that others need.
func (r *run) decideLimits(d *decision, f *finalist, s steadiness, reload int) {
	p := &d.config.Plan
	cache := f.cache
	switch {
	case f.lower.cache != "":
		d.because("cache-limit", "%s", f.lower.cache)
	case p.CacheLimit.IsSet && !r.userSet("cache-limit"):
		cache = max(cache, p.CacheLimit.Bytes)
		why := "half of the room beside the peak, at most 2 GiB: clearing the cache after every step slows a GPU down"
		if f.lower.keeps != "" {
			why += "; " + f.lower.keeps
		}
		d.because("cache-limit", "%s", why)
	case p.CacheLimit.IsSet:
		cache = max(cache, p.CacheLimit.Bytes)
		d.reasons["cache-limit"] = setByUser
	default:
		d.because("cache-limit", "default: a CPU gains nothing from kept buffers (%s seen between steps)", trainer.FormatBytes(f.cache))
	}
	d.because("wired-limit", "default: the engine's own choice")
	if f.lower.memory != "" {
		d.because("memory-limit", "%s", f.lower.memory)
		return
	}
	margin := max(int64(limitMargin*float64(f.peak)), 3*f.jitter)
	want := f.peak + cache + margin
	why := fmt.Sprintf("measured peak %s at the widest batch, cache %s, margin %s for jitter and validation",
		trainer.FormatBytes(f.peak), trainer.FormatBytes(cache), trainer.FormatBytes(margin))
	if s.leak.State == leak.Leaking {
		steps := d.config.Schedule.Steps
		if reload > 0 {
			steps = reload
		}
		growth := int64(s.leak.BytesAStep * float64(steps))
		want += growth
		why += fmt.Sprintf(", growth %s between reloads", trainer.FormatBytes(growth))
	}
	if usable := r.usable() + r.kept(); want > usable {
		want = usable
		why += fmt.Sprintf("; bounded by the %s that are usable", trainer.FormatBytes(usable))
	}
	if weights := r.known.WeightBytes(f.Bits); want < weights {
		want = weights
		why += "; never below the weights, which would stall every step"
	}
	if f.lower.needs != "" {
		why += "; " + f.lower.needs
	}
	if d.because("memory-limit", "%s", why) {
		p.MemoryLimit = trainer.LimitOf(want)
	}
}
