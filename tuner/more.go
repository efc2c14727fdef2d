package tuner

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/mlxdyno/mlxdyno/trainer"
	"github.com/mlxdyno/mlxdyno/tuner/search"
)

// More is what a training could be with more memory than it may use.
type More struct {
	Candidate  Candidate `json:"candidate"`
	LimitBytes int64     `json:"limit_bytes"` // with which it would fit
	Speedup    float64   `json:"speedup"`     // the chosen one's time for a useful token over its; predicted
}

// more is the candidate that would be the fastest if memory did not matter; nil when
// none is faster than the winner by more than a tie.
func (r *run) more(f *finalist) *More {
	problem := r.problem()
	problem.Limit, problem.Reject = math.MaxInt64, nil
	var best *More
	for _, c := range search.Enumerate(problem).Feasible {
		need := r.needed(c)
		c = r.corrected(r.lighten(c), f)
		speedup := f.SecondsPerUsefulToken / c.SecondsPerUsefulToken
		if need <= r.Limit.Bytes || speedup <= 1+search.Tie || best != nil && speedup <= best.Speedup*(1+search.Tie) && need >= best.LimitBytes {
			continue
		}
		if best == nil || speedup > best.Speedup || need < best.LimitBytes && speedup > best.Speedup/(1+search.Tie) {
			c.Fits = false
			best = &More{c, need, speedup}
		}
	}
	return best
}

// needed is the limit with which a candidate would fit, of all that the process takes.
func (r *run) needed(c Candidate) int64 {
	return c.PeakBytes + 3*c.PeakErrorBytes + r.beside()
}

// tooLittle says that nothing fits, and what would help.
func (r *run) tooLittle() *impossible {
	bits := slices.Concat(r.axes.bits...)
	p := r.anchor(r.axes.gc[len(r.axes.gc)-1])
	p.Bits, p.Batch, p.MaxSeqLength = bits[len(bits)-1], r.smallestBatch(), slices.Min(r.axes.caps)
	widest := r.epoch(p.Batch, p.MaxSeqLength).Widest
	need, how := r.estimate(p, widest), "by the estimate from the model's files"
	if r.model != nil {
		if e, ok := r.model.Peak(p.Condition(), widest); ok {
			need, how = int64(e.Value), "by what was measured"
		}
	}
	outside := r.beside()
	text := fmt.Sprintf("nothing above the floors fits %s (%s): the smallest step (%d × %d, %s) takes about %s %s",
		trainer.FormatBytes(r.Limit.Bytes), r.Limit.Source, widest.Batch, widest.Width, bitsText([]int{p.Bits}), trainer.FormatBytes(need), how)
	if outside > 0 {
		text += fmt.Sprintf(", and the process %s beside it", trainer.FormatBytes(outside))
	} else {
		text += ", and what the process has beside MLX, which no burst has shown, comes on top"
	}
	memory := "close other programs"
	if r.Wishes.MaxMemory > 0 {
		memory = "raise --max-memory"
	}
	hints := []string{fmt.Sprintf("%s, so that %s and more may be used", memory, trainer.FormatBytes(need+need/5+outside))}
	if !r.userSet("quantize") && !slices.Contains(bits, 4) {
		hints = append(hints, "allow fewer bits with --min-bits 4")
	}
	if p.MaxSeqLength > 64 {
		hints = append(hints, fmt.Sprintf("shorter rows with --max-seq-length (now %d)", p.MaxSeqLength))
	}
	if r.Base.Config.Quality.Layers < 0 {
		hints = append(hints, "fewer blocks with --num-layers")
	}
	return &impossible{problem: text, hint: strings.Join(append(hints, "or take a smaller base"), ", ")}
}
