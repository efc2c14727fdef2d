package check

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/mlxdyno/mlxdyno/probe"
	"github.com/mlxdyno/mlxdyno/probe/budget"
	"github.com/mlxdyno/mlxdyno/probe/leak"
	"github.com/mlxdyno/mlxdyno/probe/model"
	"github.com/mlxdyno/mlxdyno/probe/patient"
	"github.com/mlxdyno/mlxdyno/trainer"
)

// facts are those of the patient's model; nil when it was not named.
func (in Input) facts() *model.Facts {
	if in.Snapshot.Model == nil {
		return nil
	}
	return in.Snapshot.Model.Facts
}

// grade is what a conclusion about a patient can be at most: what it printed
// itself is no measurement of ours.
func (in Input) grade(measuredByUs bool) probe.Confidence {
	if measuredByUs && in.Patient.Record.Source != patient.Log {
		return probe.Measured
	}
	return probe.Likely
}

// printed is where numbers of the patient come from.
func (in Input) printed() string {
	if in.Patient.Record.Source == patient.Log {
		return "its log"
	}
	return "what it printed"
}

// held is the growth of what MLX counts as live, by whatever name the patient
// tells it: its peak, or memory of no name, when it tells no better.
func (in Input) held() *patient.Growth {
	for _, kind := range []string{patient.Active, patient.Some, patient.Peak} {
		if g := in.Patient.Report.Of(kind); g != nil {
			return g
		}
	}
	return nil
}

// heldGrows is the growth of live memory if it surely grows. Where the patient
// counts what is live, a rise of its peak is explained by that.
func (in Input) heldGrows() *patient.Growth {
	if g := in.held(); g != nil && g.State == leak.Leaking && g.PerSteps > 0 {
		return g
	}
	return nil
}

// ambiguous says whether a growth's unit can be read in two ways.
func ambiguous(g *patient.Growth) bool { return g.Binary.BytesAStep != g.Rate.BytesAStep }

// rate is a growth in words, in both readings of its unit.
func rate(g *patient.Growth) string {
	if g.Rate.IsExact {
		return trainer.FormatBytes(int64(g.Rate.BytesAStep)) + " a step, exactly"
	}
	text := fmt.Sprintf("%s a step", trainer.FormatBytes(int64(math.Round(g.Rate.BytesAStep))))
	if ambiguous(g) {
		text += fmt.Sprintf(" (%.0f MiB if its units are binary)", g.Binary.BytesAStep/(1<<20))
	}
	return text
}

// rateEvidence is a growth with its interval.
func (in Input) rateEvidence(g *patient.Growth) []probe.Evidence {
	mib := func(r leak.Rate) string {
		if r.IsExact {
			return fmt.Sprintf("%.0f bytes", r.BytesAStep)
		}
		return fmt.Sprintf("%.0f (%.0f to %.0f) MiB", r.BytesAStep/(1<<20), r.Low/(1<<20), r.High/(1<<20))
	}
	out := []probe.Evidence{said(g.Kind+" memory", fmt.Sprintf("%s → %s in %d readings", trainer.FormatBytes(g.First), trainer.FormatBytes(g.Last), g.Readings), "level", in.printed())}
	if ambiguous(g) {
		return append(out, said("growth a step, if its units are binary", mib(g.Binary), "0", in.printed()), said("growth a step, if they are decimal", mib(g.Rate), "0", in.printed()))
	}
	return append(out, said("growth a step", mib(g.Rate), "0", in.printed()))
}

// suspect is something whose copy may be kept at every step.
type suspect struct {
	name  string
	bytes int64
	grads string // whose gradients these are: "" when it is none
	minor bool   // one of many small ones: told only if it fits
}

// Whose gradients a suspect is.
const (
	ofHead     = "head"
	ofAdapters = "adapters"
	ofAll      = "all"
)

// suspects are the sizes that a patient's growth is compared with.
func (in Input) patientSuspects() []suspect {
	var out []suspect
	if n, ok := in.trainable(); ok {
		out = append(out, suspect{name: "float32 gradients of everything it trains", bytes: 4 * n})
	}
	f := in.facts()
	if f == nil {
		return out
	}
	head := "float32 gradient of lm_head alone"
	if f.TiedHead {
		head = "float32 gradient of the embedding, which is the output head too"
	}
	out = append(out, suspect{name: head, bytes: 4 * f.HeadParameters(), grads: ofHead})
	if !f.TiedHead && f.EmbeddingParameters() != f.HeadParameters() {
		out = append(out, suspect{name: "float32 gradient of the embedding alone", bytes: 4 * f.EmbeddingParameters(), grads: ofHead})
	}
	if rank := in.rank(); rank > 0 {
		all, attention := adapterParameters(f, rank)
		out = append(out, suspect{name: fmt.Sprintf("float32 gradients of LoRA, rank %d, on attention", rank), bytes: 4 * attention, grads: ofAdapters},
			suspect{name: fmt.Sprintf("float32 gradients of LoRA, rank %d, on all linear layers", rank), bytes: 4 * all, grads: ofAdapters})
		out = append(out, suspect{name: fmt.Sprintf("a copy of Adam's state of LoRA, rank %d, on attention", rank), bytes: 8 * attention, grads: ofAdapters, minor: true},
			suspect{name: fmt.Sprintf("a copy of Adam's state of LoRA, rank %d, on all linear layers", rank), bytes: 8 * all, grads: ofAdapters, minor: true})
		out = append(out, oneAdapter(f, rank)...)
	}
	return append(out, suspect{name: "float32 gradients of all parameters", bytes: 4 * f.Parameters, grads: ofAll},
		suspect{name: "16-bit gradients of all parameters", bytes: 2 * f.Parameters, grads: ofAll})
}

// oneAdapter are the gradients of single halves of adapters, those of one size
// together.
func oneAdapter(f *model.Facts, rank int) []suspect {
	names := map[int64][]string{}
	for _, m := range f.LinearModules(0) {
		_, within, ok := strings.Cut(m.Name, fmt.Sprintf(".%d.", m.Block))
		if !ok {
			within = m.Name
		}
		for side, width := range map[string]int{".lora_a": m.In, ".lora_b": m.Out} {
			bytes := 4 * int64(m.Experts) * int64(width) * int64(rank)
			if name := within + side; !slices.Contains(names[bytes], name) {
				names[bytes] = append(names[bytes], name)
			}
		}
	}
	var out []suspect
	for _, bytes := range slices.Sorted(maps.Keys(names)) {
		slices.Sort(names[bytes])
		out = append(out, suspect{name: "one float32 gradient of " + either(names[bytes]), bytes: bytes, grads: ofAdapters, minor: true})
	}
	return out
}

// adapterParameters counts LoRA on all linear modules of all blocks, and on
// those of attention alone.
func adapterParameters(f *model.Facts, rank int) (all, attention int64) {
	for _, m := range f.LinearModules(0) {
		n := m.AdapterParameters(rank)
		all += n
		if strings.Contains(m.Name, "attn") || strings.Contains(m.Name, "attention") {
			attention += n
		}
	}
	return all, attention
}

// attribution is a suspect against a growth.
type attribution struct {
	suspect
	off  float64 // growth over its size, less 1, in the better reading of the unit
	fits bool
	unit string // the reading of the unit in which it does
}

// attribute compares a growth with every suspect, the best fit first.
func (in Input) attributions(g *patient.Growth) []attribution {
	var out []attribution
	for _, s := range in.patientSuspects() {
		if s.bytes <= 0 {
			continue
		}
		a := attribution{suspect: s, off: math.Inf(1)}
		for _, r := range []struct {
			rate leak.Rate
			unit string
		}{{g.Binary, "its units are binary"}, {g.Rate, "its units are decimal"}} {
			off := r.rate.BytesAStep/float64(s.bytes) - 1
			fits := r.rate.Low <= float64(s.bytes) && float64(s.bytes) <= r.rate.High
			if fits && !a.fits || fits == a.fits && math.Abs(off) < math.Abs(a.off) {
				a.off, a.fits = off, fits
				if a.unit = ""; ambiguous(g) {
					a.unit = r.unit
				}
			}
		}
		if a.fits || !a.minor {
			out = append(out, a)
		}
	}
	slices.SortStableFunc(out, func(a, b attribution) int {
		if a.fits != b.fits {
			if a.fits {
				return -1
			}
			return 1
		}
		return cmp.Compare(math.Abs(math.Log1p(a.off)), math.Abs(math.Log1p(b.off)))
	})
	return out
}

func (a attribution) evidence(g *patient.Growth) probe.Evidence {
	verdict := "does not fit"
	if a.fits {
		verdict = "fits"
	}
	ratio := fmt.Sprintf("the growth is %.2f × that: %s", 1+a.off, verdict)
	if math.Abs(a.off) < 0.2 {
		ratio = fmt.Sprintf("off by %+.1f %%: %s", 100*a.off, verdict)
	}
	if a.fits && a.unit != "" {
		ratio += " if " + a.unit
	}
	source := "model files"
	if g.Rate.IsExact && a.off == 0 {
		ratio = "equal to the byte"
	}
	return probe.Evidence{Name: a.name, Observed: mebibytes(a.bytes), Expected: ratio, Source: source}
}

// mebibytes are exact for what is small.
func mebibytes(bytes int64) string {
	if bytes < 10<<20 {
		return fmt.Sprintf("%d bytes", bytes)
	}
	return fmt.Sprintf("%.1f MiB", float64(bytes)/(1<<20))
}

// trainable is how many parameters the patient says it trains.
func (in Input) trainable() (int64, bool) {
	settings := in.Patient.Record.Settings
	for _, name := range []string{"trainable_parameters", "trainable parameters", "trainable"} {
		if n, ok := parameters(settings[name]); ok {
			return n, true
		}
	}
	return parameters(settings["trainable_millions"] + "M")
}

// parameters reads a number such as 54525952, 54,525,952 or 54.5M.
func parameters(text string) (int64, bool) {
	text = strings.ReplaceAll(strings.TrimSpace(text), ",", "")
	scale := 1.
	switch {
	case strings.HasSuffix(text, "M"):
		scale, text = 1e6, strings.TrimSuffix(text, "M")
	case strings.HasSuffix(text, "B"):
		scale, text = 1e9, strings.TrimSuffix(text, "B")
	}
	var v float64
	if _, err := fmt.Sscanf(text, "%g", &v); err != nil || !(v > 0) || v*scale > 1e15 {
		return 0, false
	}
	return int64(v * scale), true
}

// rank is LoRA's, from the patient's command line or settings, or as configured.
func (in Input) rank() int {
	argv := in.Patient.Record.Argv
	for i, a := range argv {
		name, value, ok := strings.Cut(a, "=")
		if name != "--lora-rank" && name != "--rank" {
			continue
		}
		if !ok && i+1 < len(argv) {
			value = argv[i+1]
		}
		var n int
		if _, err := fmt.Sscanf(value, "%d", &n); err == nil && n > 0 && n < 1<<16 {
			return n
		}
	}
	if in.Settings.Origin("rank") != trainer.FromDefault {
		return in.config().Quality.Rank
	}
	return 0
}

// limit is what the machine can give the patient.
func (in Input) limit() budget.Limit {
	return budget.Budget{}.WithLimits(in.Snapshot, trainer.DefaultConfig()).Limit
}

// restart is how many steps a process may do until a growth has used up what
// the machine has, at the upper end of the growth's interval.
func (in Input) restart(g *patient.Growth) (steps int, evidence []probe.Evidence, ok bool) {
	limit := in.limit()
	bytes, known := limit.Bytes.Get()
	if !known || g.Rate.High <= 0 {
		return 0, nil, false
	}
	first, high := g.First, g.Rate.High
	if ambiguous(g) { // the larger reading is the careful one
		first, high = int64(float64(first)*g.Binary.BytesAStep/g.Rate.BytesAStep), g.Binary.High
	}
	n, _ := leak.StepsToExhaustion(high, bytes-first)
	return n, []probe.Evidence{
		{Name: "headroom at its start", Observed: trainer.FormatBytes(max(bytes-first, 0)), Expected: "", Source: limit.From},
		count("steps a process can do", n, "steps", "", "headroom over the upper end of the growth"),
	}, true
}

// own is a fix in the patient's own words: a flag is named only if its --help is
// known to have it.
func (in Input) own(flag, value, text string) probe.Fix {
	fix := probe.Fix{Text: text}
	if h := in.Patient.Record.Help; h != nil && h.Has(flag) {
		fix.Text += fmt.Sprintf(": give it %s %s", flag, value)
	}
	return fix
}
