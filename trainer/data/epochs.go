package data

import (
	"fmt"
)

// Epochs are endless batches: those of PlanBatches, in mlx-lm's order, which is
// drawn anew for every pass over the data.
type Epochs struct {
	plan      []Batch
	generator *Generator
	before    GeneratorState // the draw of order
	order     []int          // of this epoch
	used      int            // of order
}

// Position is how far Epochs are: where the generator was before it drew the
// order of this epoch, and how many batches of the epoch were used since.
type Position struct {
	Generator GeneratorState `json:"generator"`
	Used      int            `json:"used"`
}

// NewEpochs plans batches of rows of these lengths. From here on the generator
// belongs to the epochs. There must be rows for one batch.
func NewEpochs(lengths []int32, b Batching, g *Generator) (*Epochs, error) {
	plan := PlanBatches(lengths, b)
	if len(plan) == 0 {
		return nil, fmt.Errorf("a batch of %d rows cannot be made of %d", b.Batch, len(lengths))
	}
	e := &Epochs{plan: plan, generator: g}
	e.draw()
	return e, nil
}

func (e *Epochs) draw() {
	e.before, e.used = e.generator.State(), 0
	e.order = e.generator.Permutation(len(e.plan))
}

// Next returns the next batch. Its rows are not to be changed.
func (e *Epochs) Next() Batch {
	if e.used == len(e.order) {
		e.draw()
	}
	b := e.plan[e.order[e.used]]
	e.used++
	return b
}

// Position returns where the epochs are.
func (e *Epochs) Position() Position { return Position{Generator: e.before, Used: e.used} }

// GoTo puts epochs where others with the same batches were: they go on alike.
// Whether the batches are the same is not known here.
func (e *Epochs) GoTo(p Position) error {
	if err := p.Generator.check(); err != nil {
		return fmt.Errorf("go to position in the data: %w", err)
	}
	if p.Used < 0 || p.Used > len(e.plan) {
		return fmt.Errorf("go to position in the data: %d batches used of %d", p.Used, len(e.plan))
	}
	e.generator.SetState(p.Generator)
	e.draw()
	e.used = p.Used
	return nil
}

// Validation returns the batches of rows of these lengths on which mlx-lm's
// evaluate() computes the validation loss, in its order: grouped by length, at
// most so many of them, or all if that is negative. A split smaller than a batch
// is one batch of its own size. Seed is the configuration's, so that they are
// the same every time. Where b was Bounded by both splits, they share its widths
// with the training's batches; where those are not grouped, or the batch is
// smaller, widths are their own.
func Validation(lengths []int32, b Batching, batches int, seed uint32) []Batch {
	if n := len(lengths); !b.Grouped || n < b.Batch {
		b.Batch, b.Grouped, b.MaxShapes, b.widths = min(b.Batch, n), true, 0, nil
	}
	plan := PlanBatches(lengths, b)
	order := NewGenerator(seed).Permutation(len(plan))
	if batches >= 0 {
		order = order[:min(batches, len(order))]
	}
	out := make([]Batch, len(order))
	for i, at := range order {
		out[i] = plan[at]
	}
	return out
}
