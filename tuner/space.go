package tuner

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/mlxdyno/mlxdyno/trainer"
	"github.com/mlxdyno/mlxdyno/trainer/data"
	"github.com/mlxdyno/mlxdyno/tuner/search"
)

// axes holds the values of each knob above the floors, and why these.
type axes struct {
	bits      [][]int // levels of quality, tried in order; the values of one level compete
	ranks     []int
	batchings []search.Batching
	gc        []bool
	caps      []int
	rows      int // behind the planned training, whatever the batch

	why      map[string]string // by knob name
	notTried []NotTried
}

func (a axes) space(bits []int) search.Space {
	return search.Space{Bits: bits, Ranks: a.ranks, Batchings: a.batchings, Checkpointing: a.gc, Caps: a.caps}
}

func (s Study) userSet(knob string) bool {
	o := s.Base.Origin(knob)
	return o == trainer.FromFlag || o == trainer.FromFile
}

const setByUser = "set by you"

// axes settles the floors from the wishes, the data and the model.
func (s Study) axes() (axes, error) {
	a := axes{why: map[string]string{}, rows: s.Base.Config.Schedule.Steps * s.Base.Config.Plan.Batch}
	s.bitsAxis(&a)
	if err := s.capAxis(&a); err != nil {
		return a, err
	}
	s.rankAxis(&a)
	if err := s.batchAxis(&a); err != nil {
		return a, err
	}
	a.gc, a.why["grad-checkpoint"] = []bool{false, true}, "both are measured"
	if s.Base.Config.Quality.Dropout > 0 {
		a.gc, a.why["grad-checkpoint"] = []bool{false}, "with dropout, MLX's checkpointing computes wrong gradients: the recomputation draws new masks"
	}
	if s.userSet("grad-checkpoint") {
		a.gc, a.why["grad-checkpoint"] = []bool{s.Base.Config.Plan.Checkpointing}, setByUser
	}
	return a, nil
}

func (s Study) bitsAxis(a *axes) {
	why := &a.why
	switch minBits := s.Wishes.MinBits; {
	case s.userSet("quantize"):
		a.bits, (*why)["quantize"] = [][]int{{s.Base.Config.Model.Quantize}}, setByUser
	case s.Facts.Quant != nil:
		a.bits, (*why)["quantize"] = [][]int{{0}}, fmt.Sprintf("the base is stored with %d bits a weight already", s.Facts.Quant.Bits)
	case minBits >= 16:
		a.bits, (*why)["quantize"] = [][]int{{0}}, "quantizing is not allowed (--min-bits 16)"
	default:
		levels := []int{0}
		for _, b := range []int{8, 4} {
			if b >= minBits {
				levels = append(levels, b)
			}
		}
		mayTrade := minBits > 0 && s.Wishes.Prefer == Speed || s.Wishes.Prefer == Memory
		if mayTrade {
			a.bits, (*why)["quantize"] = [][]int{levels}, "fewer bits compete, as you asked"
			break
		}
		for _, b := range levels {
			a.bits = append(a.bits, []int{b})
		}
		(*why)["quantize"] = "quality first: fewer bits only if nothing fits with more"
	}
}

// maxCut is the share of tokens that the length cap may cut unless the user
// set the cap.
const maxCut = 0.01

func (s Study) capAxis(a *axes) error {
	if s.userSet("max-seq-length") {
		limit := s.Base.Config.Data.MaxSeqLength
		a.caps, a.why["max-seq-length"] = []int{limit}, setByUser
		if rows, share := cut(s.Lengths, limit); rows > 0 {
			a.why["max-seq-length"] += fmt.Sprintf("; it cuts %s and %.2g %% of the tokens", trainer.Count(rows, "row"), 100*share)
		}
		return nil
	}
	sorted := slices.Sorted(slices.Values(s.Lengths))
	p99 := int(sorted[(len(sorted)*99+99)/100-1])
	full := natural(int(sorted[len(sorted)-1]))
	most := math.MaxInt
	if s.Facts.MaxPositions > 0 {
		most = s.Facts.MaxPositions + 1 // one token more than positions go through the model
	}
	limit := natural(p99)
	for limit < full {
		if _, share := cut(s.Lengths, limit); share < maxCut {
			break
		}
		limit += 32
	}
	if limit > most {
		rows, share := cut(s.Lengths, most)
		if share >= maxCut {
			return wishError(fmt.Sprintf("split the long rows, or accept it with --max-seq-length %d", most),
				"the model takes %d positions, which would cut %s and %.2g %% of the tokens", s.Facts.MaxPositions, trainer.Count(rows, "row"), 100*share)
		}
		limit, full = most, most
	}
	rows, share := cut(s.Lengths, limit)
	a.caps = []int{limit}
	a.why["max-seq-length"] = fmt.Sprintf("covers 99 %% of the rows (p99 is %d tokens) and cuts %s, %.2g %% of the tokens", p99, trainer.Count(rows, "row"), 100*share)
	if full = min(full, most); s.Wishes.Prefer == Quality && full > limit {
		a.caps = append(a.caps, full)
		a.why["max-seq-length"] += "; the uncut length competes, as you prefer quality"
	} else if full > limit {
		a.notTried = append(a.notTried, NotTried{What: fmt.Sprintf("length %d, which cuts nothing", full), Why: fmt.Sprintf("it would widen the widest batch for %s; set --max-seq-length %d or --prefer quality", trainer.Count(rows, "row"), full)})
	}
	return nil
}

// natural is the width that mlx-lm gives a batch whose longest row is n.
func natural(n int) int { return 1 + 32*((n+31)/32) }

func cut(lengths []int32, limit int) (rows int, share float64) {
	var all, over int64
	for _, n := range lengths {
		all += int64(n)
		if int(n) > limit {
			rows++
			over += int64(n) - int64(limit)
		}
	}
	return rows, float64(over) / float64(max(all, 1))
}

const (
	minRank     = 8
	maxAutoRank = 32
)

// rankAxis gives the adapters as many parameters as the training has tokens to
// learn from ("LoRA Without Regret": capacity is what limits LoRA), within
// bounds.
func (s Study) rankAxis(a *axes) {
	c := s.Base.Config
	if s.userSet("rank") {
		a.ranks, a.why["rank"] = []int{c.Quality.Rank}, setByUser
		return
	}
	var useful int64
	for i := range s.Lengths {
		useful += data.Supervised(s.Lengths[i], s.Prompts[i], a.caps[0])
	}
	planned := float64(useful) / float64(len(s.Lengths)) * float64(a.rows)
	perRank := s.Facts.AdapterParameters(1, c.Quality.Layers)
	rank, why := minRank, "the model's adapters could not be counted, so the default"
	if perRank > 0 {
		need := int(math.Ceil(planned / float64(perRank)))
		for rank < need && rank < maxAutoRank {
			rank *= 2
		}
		why = fmt.Sprintf("%.0f supervised tokens of training over %d adapter parameters a rank ask for %d; %d is the least that is considered, %d the most", planned, perRank, need, minRank, maxAutoRank)
		if need > rank {
			a.notTried = append(a.notTried, NotTried{What: fmt.Sprintf("rank %d", min(64, nextPower(need))), Why: fmt.Sprintf("the data would fill it, but ranks above %d cost speed for a small gain; set --rank", maxAutoRank)})
		}
	}
	a.ranks = []int{rank}
	if len(s.Wishes.Ranks) > 0 {
		allowed := slices.Sorted(slices.Values(s.Wishes.Ranks))
		a.ranks = slices.DeleteFunc(slices.Clone(allowed), func(r int) bool { return r < rank })
		if len(a.ranks) == 0 {
			a.ranks = allowed[len(allowed)-1:]
		}
		why += fmt.Sprintf("; of the ranks that you allow, %s", joinInts(a.ranks))
	}
	a.why["rank"] = why
}

func nextPower(n int) int {
	p := minRank
	for p < n {
		p *= 2
	}
	return p
}

const (
	maxAutoEffective = 8  // rows to one update that the study chooses itself
	maxEffective     = 32 // a warning above: LoRA loses with large batches
)

func (s Study) batchAxis(a *axes) error {
	c := s.Base.Config
	fixedBatch, fixedAcc := s.userSet("batch-size"), s.userSet("grad-accumulation-steps")
	effective := s.Wishes.EffectiveBatch
	asked := effective > 0
	if !asked {
		effective = c.EffectiveBatch()
	}
	switch {
	case fixedBatch && fixedAcc:
		a.batchings = []search.Batching{{Batch: c.Plan.Batch, Accumulation: c.Plan.Accumulation}}
	case fixedBatch && asked && effective%c.Plan.Batch == 0:
		a.batchings = []search.Batching{{Batch: c.Plan.Batch, Accumulation: effective / c.Plan.Batch}}
	case fixedBatch && !asked:
		a.batchings = []search.Batching{{Batch: c.Plan.Batch, Accumulation: c.Plan.Accumulation}}
	case fixedAcc && effective%c.Plan.Accumulation == 0:
		a.batchings = []search.Batching{{Batch: effective / c.Plan.Accumulation, Accumulation: c.Plan.Accumulation}}
	case fixedBatch || fixedAcc:
		return wishError("change one of --effective-batch, --batch-size and --grad-accumulation-steps, or leave one of them free",
			"an effective batch of %d is no multiple of the batch size or accumulation that is set", effective)
	default:
		for b := 1; b <= effective; b++ {
			if effective%b == 0 {
				a.batchings = append(a.batchings, search.Batching{Batch: b, Accumulation: effective / b})
			}
		}
		if larger := 2 * effective; !asked && larger <= maxAutoEffective {
			a.batchings = append(a.batchings, search.Batching{Batch: larger, Accumulation: 1})
		}
	}
	a.batchings = slices.DeleteFunc(a.batchings, func(b search.Batching) bool { return b.Batch > len(s.Lengths) })
	if len(a.batchings) == 0 {
		return wishError("lower --batch-size, or give more rows", "the training split has %s, fewer than one batch", trainer.Count(len(s.Lengths), "row"))
	}
	why := fmt.Sprintf("%d rows to one update, as batch × accumulation", effective)
	if fixedBatch && fixedAcc {
		why = setByUser
	} else if last := a.batchings[len(a.batchings)-1]; last.Batch*last.Accumulation > effective {
		why = fmt.Sprintf("%d to %d rows to one update, as batch × accumulation", effective, last.Batch*last.Accumulation)
	}
	if effective >= maxEffective {
		why += fmt.Sprintf("; LoRA learns less from effective batches of %d and more", maxEffective)
	}
	a.why["batch-size"], a.why["grad-accumulation-steps"] = why, why
	return nil
}

func (a axes) describe() []Axis {
	var levels []string
	for _, l := range a.bits {
		for _, b := range l {
			levels = append(levels, strconv.Itoa(b))
		}
	}
	var batches, caps, gc []string
	for _, b := range a.batchings {
		batches = append(batches, fmt.Sprintf("%d × %d", b.Batch, b.Accumulation))
	}
	for _, c := range a.caps {
		caps = append(caps, strconv.Itoa(c))
	}
	for _, v := range a.gc {
		gc = append(gc, strconv.FormatBool(v))
	}
	return []Axis{
		{Knob: "quantize", Values: levels, Why: a.why["quantize"]},
		{Knob: "rank", Values: strings.Split(joinInts(a.ranks), ", "), Why: a.why["rank"]},
		{Knob: "batch-size", Values: batches, Why: a.why["batch-size"]},
		{Knob: "grad-checkpoint", Values: gc, Why: a.why["grad-checkpoint"]},
		{Knob: "max-seq-length", Values: caps, Why: a.why["max-seq-length"]},
	}
}

func joinInts(v []int) string {
	parts := make([]string, len(v))
	for i, n := range v {
		parts[i] = strconv.Itoa(n)
	}
	return strings.Join(parts, ", ")
}

func bitsText(bits []int) string {
	best := slices.MaxFunc(bits, func(a, b int) int { return cmp.Compare(bitsOf(a), bitsOf(b)) })
	if best == 0 {
		return "the base as stored"
	}
	return fmt.Sprintf("the base at %d bits", best)
}

// bitsOf orders 0, as stored, above all quantizations.
func bitsOf(b int) int {
	if b == 0 {
		return 16
	}
	return b
}
