package tuner

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/mlxdyno/mlxdyno/probe/model"
	"github.com/mlxdyno/mlxdyno/trainer"
	"github.com/mlxdyno/mlxdyno/tuner/predict"
	"github.com/mlxdyno/mlxdyno/tuner/search"
)

// Bursts runs a job in a process of its own, for its measurements. What befalls
// the process is in the burst; an error means that it could not be run at all.
type Bursts interface {
	Burst(context.Context, trainer.Job) (trainer.Burst, error)
}

// Study is one search for the best stable configuration.
type Study struct {
	Bursts Bursts

	// Base is where the search begins. A knob that a flag or a file set keeps
	// its value.
	Base trainer.Settings

	Facts   model.Facts
	Lengths []int32 // tokens of each training row
	Prompts []int32 // leading tokens of each that are not supervised
	Tokens  trainer.TokenFiles

	// ValidLengths are the tokens of each validation row, which share shapes with
	// the training's; nil when there are none.
	ValidLengths []int32

	// Otherwise lists other ways to compute a configuration's steps, for Wishes.Try;
	// nil when the engine has none.
	Otherwise func(trainer.Config) []trainer.Turn

	// Device is the kind of device that bursts will run on: cpu, metal or cuda.
	// Empty leaves it to the first burst to say.
	Device string

	// ValidRows is how many rows the validation split has; 0 when unknown. The
	// time of validations is estimated by it.
	ValidRows int

	Limit  Limit // memory that the training may use, all of its process; 0 bytes when unknown, then Wishes.MaxMemory must say
	Wishes Wishes
	Keys   Keys   // Model is filled from Facts when empty
	Seed   uint64 // noted in the report; the search itself draws nothing

	// Journal is a file in which bursts are kept that did what they were asked
	// to. Those in it that belong to the same job, model, data, machine and
	// versions are not run again. It is locked while the study runs. Empty
	// keeps nothing.
	Journal string

	// Strain, when not nil, reads how hard memory is to get, every half second while
	// bursts run.
	Strain func() Strain

	// Progress, when not nil, is told what happens, in order.
	Progress func(Stage)
}

// Stage is what a study is about to do.
type Stage struct {
	Name     string        `json:"name"` // calibrate, confirm, stability, rehearse, quality
	Text     string        `json:"text"`
	Burst    int           `json:"burst"`  // number of the burst, from 1
	Bursts   int           `json:"bursts"` // how many are expected in all
	Spent    time.Duration `json:"spent_ns"`
	Budget   time.Duration `json:"budget_ns"`
	Replayed bool          `json:"replayed"` // the burst is taken from the journal
}

// expectedBursts is the plan of a study that meets no trouble: two to calibrate,
// two to confirm, one for stability, one rehearsal.
const expectedBursts = 6

// Run searches. An error means that the study itself could not go on: it is a
// *WishError when it cannot begin as asked, and a *BusyError when another one
// writes the same journal. That nothing fits, or that the winner failed a gate,
// is in the report.
func (s Study) Run(ctx context.Context) (*Report, error) {
	r, err := s.prepare()
	if err != nil {
		return nil, err
	}
	err = r.bursts.open(ctx, s.Journal)
	if err == nil {
		err = r.search(ctx)
	}
	if closeErr := r.bursts.close(); err == nil {
		err = closeErr
	}
	var no *impossible
	if errors.As(err, &no) {
		r.report.Verdict, r.report.Problem, r.report.Hint = Impossible, no.problem, no.hint
		err = nil
	}
	if err != nil {
		return nil, err
	}
	r.finishReport()
	return r.report, nil
}

// impossible ends a search that has no result to give.
type impossible struct{ problem, hint string }

func (e *impossible) Error() string { return e.problem }

// lossAt is the loss of a step.
type lossAt struct {
	shape trainer.Shape
	loss  float64
}

// run is a study under way.
type run struct {
	Study
	report *Report
	bursts *bench
	space  search.Space
	axes   axes
	plans  map[[2]int]*epoch // by batch and cap

	known      predict.Known
	samples    []predict.Sample
	model      *predict.Model
	deaths     map[predict.Condition][]trainer.Shape // steps at which a process died
	failed     map[Point]string                      // why what was run is out, although it was predicted to fit
	calibrated int                                   // bits that calibration runs with
	heldBack   []heldBack                            // calibrations that could have changed nothing
	lastDeath  trainer.Burst                         // the last calibration burst whose process died
	losses     map[predict.Condition][]lossAt        // of calibration's steps, in order
	program    int64                                 // bytes of the process outside MLX before its first step; 0 when no burst said, and then all of host counts as what grows
	host       int64                                 // the same, at most
	cache      int64                                 // most that MLX kept of freed buffers
	load       float64                               // seconds from start to first step
	first      float64                               // seconds of the last burst's first step
	compiles   bool                                  // steps, as the last burst said
	update     float64                               // seconds that a step which ends an update takes longer than one that accumulates; 0 before that was seen
	noise      []float64                             // relative differences of the steps of one shape in one burst
	untimed    bool                                  // some burst ended well and gave no times
	pace       float64                               // what the last burst's steps took, over the least that they take
	measured   []*finalist                           // those that were confirmed, of the space that is searched
	lacks      []string                              // why the result is not confirmed, beside gates
	device     string                                // cpu, metal or cuda
	outcome    search.Outcome
}

func (s Study) prepare() (*run, error) {
	switch {
	case s.Bursts == nil:
		return nil, errors.New("tune: nothing to run bursts with")
	case len(s.Lengths) == 0:
		return nil, wishError("give --data with rows to train on", "the training split has no rows")
	case len(s.Prompts) != len(s.Lengths):
		return nil, fmt.Errorf("tune: %d prompt lengths for %d rows", len(s.Prompts), len(s.Lengths))
	}
	if err := s.Wishes.validate(); err != nil {
		return nil, err
	}
	if most := s.Wishes.MaxMemory; most > 0 && (s.Limit.Bytes <= 0 || most < s.Limit.Bytes) {
		s.Limit = Limit{Bytes: most, Source: "--max-memory"}
	}
	if s.Limit.Bytes <= 0 {
		return nil, wishError("say how much it may take with --max-memory", "the memory that the training may use is unknown")
	}
	if err := s.Base.Config.Validate(); err != nil {
		return nil, fmt.Errorf("tune: %w", err)
	}
	if len(s.Wishes.Try) > 0 && s.Otherwise == nil {
		return nil, wishError("leave it out, or use --engine "+trainer.EngineNative, "try: the %s engine computes steps in one way only", s.Base.Config.Engine)
	}
	if s.Wishes.Budget == 0 {
		s.Wishes.Budget = DefaultBudget
	}
	if s.Wishes.Prefer == "" {
		s.Wishes.Prefer = Speed
	}
	if s.Keys.Model == "" {
		s.Keys.Model = s.Facts.Key
	}
	r := &run{Study: s, device: s.Device, pace: 1, plans: map[[2]int]*epoch{}, deaths: map[predict.Condition][]trainer.Shape{}, failed: map[Point]string{}, losses: map[predict.Condition][]lossAt{}}
	r.report = &Report{Schema: Schema, Verdict: Unconfirmed, Limit: s.Limit, Wishes: s.Wishes, Keys: s.Keys, Seed: s.Seed}
	r.bursts = &bench{study: &r.Study, report: r.report}
	axes, err := s.axes()
	if err != nil {
		return nil, err
	}
	r.axes = axes
	r.report.Space.Axes = axes.describe()
	r.report.NotTried = append(r.report.NotTried, axes.notTried...)
	return r, nil
}

// search goes through the stages. Quality first: fewer bits are looked at only
// when nothing fits with more, unless the wishes put them into one space.
func (r *run) search(ctx context.Context) error {
	for _, bits := range r.axes.bits {
		r.space = r.axes.space(bits)
		if !r.mayFit() {
			r.report.NotTried = append(r.report.NotTried, NotTried{
				What: bitsText(bits), Why: "by the estimate from the model's files not even the smallest step fits what the process leaves of the limit, " + trainer.FormatBytes(max(r.usable(), 0))})
			continue
		}
		r.measured = nil
		if err := r.calibrate(ctx); errors.Is(err, errSpent) {
			return r.nothingFits()
		} else if err != nil {
			return err
		}
		switch {
		case r.model != nil:
			r.enumerate()
		case r.untimed: // fewer bits would take as long to compile
			return &impossible{problem: fmt.Sprintf("no step could be timed within the budget: the first one took %.3g s to compile", r.first),
				hint: "give the search more time with --budget"}
		}
		if len(r.outcome.Feasible)+len(r.outcome.Doubtful) == 0 {
			continue
		}
		done, err := r.settle(ctx)
		if err != nil || done {
			return err
		}
	}
	return r.nothingFits()
}

// maxWinners is how many are watched for leaks: one may die, and one leak so much that
// another is better.
const maxWinners = 3

// settle confirms the best candidates and tests the winner. It returns false
// when none of them held what was predicted.
func (r *run) settle(ctx context.Context) (bool, error) {
	var next *finalist
	for nth := range maxWinners {
		winner, err := next, error(nil)
		if winner == nil {
			winner, err = r.confirm(ctx)
		}
		if err != nil || winner == nil {
			return false, err
		}
		if winner.lacks != "" {
			r.lacks = append(r.lacks, winner.lacks)
		}
		if err := r.tryOthers(ctx, winner); err != nil {
			return false, err
		}
		if winner.lacks == "" {
			r.resetCache(winner)
		}
		stable, err := r.stability(ctx, winner)
		if err != nil {
			return false, err
		}
		if !stable.survived {
			r.lacks, next = nil, nil
			r.fail(winner.Point, "it died while it was watched for leaks")
			continue
		}
		if next == nil {
			if next, err = r.reloadingLess(ctx, winner, stable); err != nil {
				return false, err
			}
			if next != nil {
				r.lacks = nil
				continue
			}
		}
		winner.Candidate = atPace(winner.Candidate, winner.ratio/winner.least)
		if err := r.rehearse(ctx, winner); err != nil {
			return false, err
		}
		if winner.recached {
			r.lacks = append(r.lacks, "its speed was measured with another cache than the one that its peak leaves room for, and it could not be rehearsed with that")
		}
		if !r.judgeProcess(winner) {
			r.fail(winner.Point, "with what its process has beside MLX it exceeds the limit")
			if nth < maxWinners-1 && len(r.outcome.Feasible) > 0 {
				r.lacks, next = nil, nil
				continue
			}
		}
		if err := r.measureQuality(ctx, winner); err != nil {
			return false, err
		}
		r.conclude(winner, stable)
		return true, nil
	}
	return false, nil
}

func (r *run) nothingFits() error {
	if died := r.lastDeath; r.model == nil && died.Result.Outcome != "" && !outOfMemory(died) {
		return &impossible{problem: "no burst measured enough to go by; the last one: " + died.Problem(), hint: hintOf(died)}
	}
	if r.bursts.left() <= 0 {
		return &impossible{problem: fmt.Sprintf("the budget of %s was spent before anything that fits was found (%d bursts; %s)",
			trainer.FormatDuration(r.Wishes.Budget), len(r.report.Bursts), r.paceText()), hint: r.moreTime()}
	}
	if r.untimed {
		return &impossible{problem: fmt.Sprintf("nothing that could be timed fits %s (%s)", trainer.FormatBytes(r.Limit.Bytes), r.Limit.Source),
			hint: "give the search more time with --budget, so that what is listed as not tried is measured, too"}
	}
	return r.tooLittle()
}
