package command

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/mlxdyno/mlxdyno/trainer"
)

// Match says how sure an adapter is that a line was printed by its trainer.
type Match int

const (
	NoMatch   Match = 0
	Plausible Match = 1 // others print such lines too
	Signature Match = 5 // a line of this trainer alone
)

// Adapter knows how one trainer prints.
type Adapter struct {
	Name    string
	Caveats []string // what its numbers leave out, in sentences
	New     func() Parser
}

// Parser reads the lines of one log in order.
type Parser interface {
	// Parse returns what a line says and how well it fits. It keeps nothing
	// that grows with the log.
	Parse(line string) ([]Reading, Match)
}

// Adapters returns those that are built in, the most particular first.
func Adapters() []Adapter {
	return []Adapter{YourAI(), MLXLM(), JSONLines(), StepLines()}
}

// AdapterNamed returns a built-in adapter.
func AdapterNamed(name string) (Adapter, error) {
	var names []string
	for _, a := range Adapters() {
		if a.Name == name {
			return a, nil
		}
		names = append(names, a.Name)
	}
	return Adapter{}, fmt.Errorf("adapter %q is not known: want %s, or a file that describes one", name, strings.Join(names, ", "))
}

// Detected says which adapter was picked, and why.
type Detected struct {
	Name    string
	Sure    Sureness
	Why     string
	Caveats []string
}

// Sureness grades a detection.
type Sureness string

const (
	Chosen  Sureness = "chosen"  // by the caller
	Certain Sureness = "certain" // several lines that only this trainer prints
	Likely  Sureness = "likely"  // one such line
	Guessed Sureness = "guessed" // lines that fit, as those of others would
	Nobody  Sureness = "none"    // no line was understood
)

const (
	detectLines = 2000 // after which the best so far is taken
	detectScore = 3 * int(Signature)
	heldBytes   = 1 << 20 // of text in readings that wait for the decision; about as many lines
)

// Detector feeds lines to several adapters until one of them is clearly right.
// It holds back what they read until then.
type Detector struct {
	candidates []*candidate
	chosen     *candidate
	lines      int
	held       int
	told       bool // the caller named the adapter
}

type candidate struct {
	adapter          Adapter
	parser           Parser
	score            int
	matches, certain int
	held             []Reading
}

// NewDetector picks among adapters, which is a choice already if there is one.
func NewDetector(adapters ...Adapter) *Detector {
	d := &Detector{}
	for _, a := range adapters {
		d.candidates = append(d.candidates, &candidate{adapter: a, parser: a.New()})
	}
	if len(d.candidates) == 1 {
		d.chosen, d.told = d.candidates[0], true
	}
	return d
}

// Parse takes a line and returns the readings that are certain to be passed on.
func (d *Detector) Parse(line Line) []Reading {
	if d.chosen != nil {
		return d.chosen.parse(line)
	}
	d.lines++
	for _, c := range d.candidates {
		readings := c.parse(line)
		for _, r := range readings {
			if r.Notice != nil {
				d.held += len(r.Notice.Text)
			}
			d.held += 100
		}
		c.held = append(c.held, readings...)
	}
	best, second := d.ranking()
	if best.score >= detectScore && best.score >= 2*second || d.lines >= detectLines || d.held > heldBytes {
		return d.Finish()
	}
	return nil
}

// Leading returns what the adapter that fits best so far has read and nobody
// was given yet.
func (d *Detector) Leading() []Reading {
	if d.chosen != nil || len(d.candidates) == 0 {
		return nil
	}
	best, _ := d.ranking()
	return best.held
}

// Finish decides by what was seen so far and returns what was held back.
func (d *Detector) Finish() []Reading {
	if d.chosen != nil || len(d.candidates) == 0 {
		return nil
	}
	best, _ := d.ranking()
	d.chosen = best
	out := best.held
	for _, c := range d.candidates {
		c.held = nil
	}
	return out
}

// ranking returns the best candidate and the next one's score. Among equals the
// more particular one wins.
func (d *Detector) ranking() (best *candidate, second int) {
	order := slices.Clone(d.candidates)
	slices.SortStableFunc(order, func(a, b *candidate) int { return cmp.Compare(b.score, a.score) })
	if len(order) > 1 {
		second = order[1].score
	}
	return order[0], second
}

func (c *candidate) parse(line Line) []Reading {
	readings, match := c.parser.Parse(line.Text)
	c.score += int(match)
	if match != NoMatch {
		c.matches++
	}
	if match >= Signature {
		c.certain++
	}
	if !slices.ContainsFunc(readings, func(r Reading) bool { return r.Notice != nil }) {
		if n := noticeIn(line.Text); n != nil {
			readings = append(readings, Reading{Notice: n})
		}
	}
	for i := range readings {
		readings[i].Line, readings[i].At = line.Number, line.At
		if line.Footprint.Known() && readings[i].Step.Known() {
			readings[i].Memory = append(readings[i].Memory, Memory{Kind: FootprintMemory, Value: float64(line.Footprint.Or(0)), Unit: "B", Bytes: line.Footprint})
		}
	}
	return readings
}

// Detected says which adapter it is.
func (d *Detector) Detected() Detected {
	if len(d.candidates) == 0 {
		return Detected{Sure: Nobody, Why: "there is no adapter"}
	}
	best, second := d.chosen, 0
	if best == nil {
		best, second = d.ranking()
	}
	for _, c := range d.candidates {
		if c != best {
			second = max(second, c.score)
		}
	}
	out := Detected{Name: best.adapter.Name, Caveats: best.adapter.Caveats}
	switch {
	case d.told:
		out.Sure, out.Why = Chosen, fmt.Sprintf("%s understood", lines(best.matches))
	case best.matches == 0:
		return Detected{Sure: Nobody, Why: "no line looks like a step, a loss or a metric"}
	case best.certain > 1 && best.score >= 2*second:
		out.Sure, out.Why = Certain, fmt.Sprintf("%s that only %s prints", lines(best.certain), best.adapter.Name)
	case best.certain > 0:
		out.Sure, out.Why = Likely, fmt.Sprintf("%s that only %s prints", lines(best.certain), best.adapter.Name)
	default:
		out.Sure, out.Why = Guessed, fmt.Sprintf("%s understood", lines(best.matches))
	}
	return out
}

func lines(n int) string {
	if n == 1 {
		return "1 line"
	}
	return fmt.Sprintf("%d lines", n)
}

func setting(name, value string) Setting { return Setting{Name: name, Value: strings.TrimSpace(value)} }

func one(r Reading, m Match) ([]Reading, Match) { return []Reading{r}, m }

// stepsOf notes step and total, of which the total may be missing.
func (r *Reading) stepsOf(step, total string) {
	r.Step = optStep(step)
	if n, ok := optStep(total).Get(); ok && n > 0 {
		r.Steps = trainer.Some(n)
	}
}
