package tuner

import (
	"fmt"
	"strings"

	"github.com/mlxdyno/mlxdyno/trainer"
)

// WishError lists what was asked of a study that cannot be done with this
// model, text and machine. Nothing was run.
type WishError struct{ Problems []WishProblem }

// WishProblem is one reason for which a study does not begin, and what to do
// about it.
type WishProblem struct{ Text, Hint string }

func (e *WishError) Error() string {
	texts := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		texts[i] = p.Text
	}
	return "tune: " + strings.Join(texts, "; ")
}

// Hint says what to do about all of the problems.
func (e *WishError) Hint() string {
	hints := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		hints[i] = p.Hint
	}
	return strings.Join(hints, "; ")
}

func wishError(hint, format string, args ...any) *WishError {
	return &WishError{[]WishProblem{{fmt.Sprintf(format, args...), hint}}}
}

// validate checks the wishes by themselves. It returns a *WishError naming
// every problem, or nil.
func (w Wishes) validate() error {
	var e WishError
	need := func(ok bool, hint, format string, args ...any) {
		if !ok {
			e.Problems = append(e.Problems, WishProblem{fmt.Sprintf(format, args...), hint})
		}
	}
	need(w.MinBits == 0 || w.MinBits >= 2 && w.MinBits <= 8 || w.MinBits == 16, "use 2 to 8, 16 to forbid quantizing, or 0 to quantize only what does not fit otherwise",
		"min-bits: %d is no number of bits that weights can have", w.MinBits)
	for _, rank := range w.Ranks {
		need(rank >= 1, "use ranks of 1 or more", "ranks: %d is no rank", rank)
	}
	for _, name := range w.Try {
		_, ok := trainer.FindKnob(name)
		need(ok || name == TryAll, "name knobs such as step-by, keep or matmul, or "+TryAll, "try: no knob is called %q", name)
	}
	switch w.Prefer {
	case "", Speed, Memory, Quality:
	default:
		need(false, fmt.Sprintf("use %s, %s or %s", Speed, Memory, Quality), "prefer: %q is no order that is known", w.Prefer)
	}
	need(w.Budget >= 0, "use a time above 0", "budget: %s is no time to search in", w.Budget)
	need(w.MaxMemory >= 0, "use more than 0 bytes", "max-memory: %d bytes cannot be kept to", w.MaxMemory)
	need(w.EffectiveBatch >= 0, "use 1 or more rows, or 0 to keep what the settings say", "effective-batch: %d rows are no batch", w.EffectiveBatch)
	if len(e.Problems) > 0 {
		return &e
	}
	return nil
}
