package tuner

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"github.com/gofrs/flock"

	"github.com/mlxdyno/mlxdyno/trainer"
	"github.com/mlxdyno/mlxdyno/trainer/journal"
)

// bench runs bursts, keeps them in the journal and takes finished ones from it.
type bench struct {
	study   *Study
	report  *Report
	lock    *flock.Flock // of the journal
	journal *journal.Journal
	done    map[string]burstRecord
	strain  strained      // while the last burst ran
	spent   time.Duration // of all bursts, replayed ones too: a resumed study decides as the first one did
}

// BusyError says that another search writes the same journal.
type BusyError struct{ Journal string }

func (e *BusyError) Error() string {
	return fmt.Sprintf("tune: another search on the same model and data runs (it writes %s): wait for it", e.Journal)
}

// orphaned is how long the lock may outlive a search that was killed: a worker that
// it was just starting has the file open until it runs a program of its own.
const orphaned = 5 * time.Second

// Kinds of the journal's records.
const (
	recordKind = "burst" // a finished one
	keysKind   = "keys"  // of the bursts that follow
)

type burstRecord struct {
	Key     string        `json:"key"`
	Purpose string        `json:"purpose"`
	Budget  time.Duration `json:"budget_ns,omitempty"` // that its job had
	Burst   trainer.Burst `json:"burst"`
	Strain  strained      `json:"strain,omitzero"`
}

// answers reports whether the burst is what a job with that budget would give. One
// that was cut short by its budget says less than one with clearly more time.
func (r burstRecord) answers(budget time.Duration) bool {
	done := r.Burst.Result.Done
	return done == nil || done.Reason != trainer.DoneBudget || budget <= r.Budget*5/4
}

// errSpent says that a burst was not begun because the budget is spent. The last
// one may have reached beyond its end; none begins there.
var errSpent = errors.New("the budget is spent")

func (b *bench) open(ctx context.Context, path string) error {
	b.done = map[string]burstRecord{}
	if path == "" {
		return nil
	}
	b.lock = flock.New(path + ".lock")
	waiting, cancel := context.WithTimeout(ctx, orphaned)
	defer cancel()
	ours, err := b.lock.TryLockContext(waiting, orphaned/100)
	if err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("tune: lock journal: %w", err)
	}
	if !ours {
		return &BusyError{path}
	}
	told := false
	err = journal.Read(path, func(r journal.Record) error {
		if r.Kind == keysKind {
			told = true
		}
		if r.Kind != recordKind {
			return nil
		}
		var rec burstRecord
		if err := json.Unmarshal(r.Data, &rec); err != nil {
			return fmt.Errorf("read a burst: %w", err)
		}
		if tells(rec.Burst) {
			b.done[rec.Key] = rec
		}
		return nil
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("tune: %w", err)
	}
	if b.journal, err = journal.Open(path); err != nil {
		return fmt.Errorf("tune: %w", err)
	}
	if !told {
		if err := b.journal.Append(keysKind, b.study.Keys); err != nil {
			return fmt.Errorf("tune: %w", err)
		}
	}
	return nil
}

// KeysOf returns the keys for which the bursts in a journal hold; false when it
// does not say, or holds no burst.
func KeysOf(path string) (Keys, bool) {
	var keys Keys
	var told, bursts bool
	err := journal.Read(path, func(r journal.Record) error {
		switch {
		case r.Kind == recordKind:
			bursts = true
		case r.Kind == keysKind && !told:
			told = json.Unmarshal(r.Data, &keys) == nil
		}
		if told && bursts {
			return errFound
		}
		return nil
	})
	return keys, told && bursts && (err == nil || errors.Is(err, errFound))
}

var errFound = errors.New("found")

func (b *bench) close() error {
	if b.lock != nil {
		defer b.lock.Close()
	}
	if b.journal == nil {
		return nil
	}
	if err := b.journal.Close(); err != nil {
		return fmt.Errorf("tune: close journal: %w", err)
	}
	return nil
}

// left is the time that the budget still holds.
func (b *bench) left() time.Duration { return b.study.Wishes.Budget - b.spent }

// good counts the bursts that did what they were asked to.
func (b *bench) good() int {
	n := 0
	for _, r := range b.report.Bursts {
		if r.Outcome.Good() {
			n++
		}
	}
	return n
}

// share is the time that the next burst may take when so many are still to
// come, this one included.
func (b *bench) share(bursts int) time.Duration {
	return max(b.left()/time.Duration(max(bursts, 1)), 2*time.Second)
}

// maxKilled is how many processes of one burst must be killed by somebody to count
// as its death: once can be an accident that has nothing to do with it.
const maxKilled = 2

// run runs one burst of a configuration, or takes it from the journal. When no time
// is left, it is errSpent.
func (b *bench) run(ctx context.Context, stage, text string, p Point, job trainer.Job) (trainer.Burst, error) {
	if err := ctx.Err(); err != nil {
		return trainer.Burst{}, err
	}
	if b.left() <= 0 {
		return trainer.Burst{}, errSpent
	}
	job.Tokens, job.Mode = b.study.Tokens, trainer.Normal
	job.Budget = job.Budget.Round(time.Millisecond)
	// What decides nothing in a burst must not change its identity.
	job.Config.Output = trainer.DefaultConfig().Output
	batches := job.Config.Schedule.ValBatches
	job.Config.Schedule = trainer.DefaultConfig().Schedule
	if job.Evaluate {
		job.Config.Schedule.ValBatches = batches
	}
	job.Config.Schedule.Steps = max(job.Config.Schedule.Steps, job.UntilStep)
	key := b.key(job)
	kept, replayed := b.done[key]
	replayed = replayed && kept.answers(job.Budget)
	burst, strain := kept.Burst, kept.Strain
	if b.study.Progress != nil {
		n := len(b.report.Bursts) + 1
		b.study.Progress(Stage{Name: stage, Text: text, Burst: n, Bursts: max(n, expectedBursts),
			Spent: b.spent, Budget: b.study.Wishes.Budget, Replayed: replayed})
	}
	record := func() {
		b.report.Bursts = append(b.report.Bursts, BurstRecord{
			Purpose: stage, Key: key, Point: p, Shapes: slices.Clone(job.Shapes), Steps: len(burst.Summary.Steps),
			Outcome: burst.Result.Outcome, Problem: burst.Problem(), Seconds: burst.Result.Elapsed.Seconds(), Replayed: replayed})
	}
	if !replayed {
		for try := 1; ; try++ {
			var err error
			watched := watch(b.study.Strain)
			burst, err = b.study.Bursts.Burst(ctx, job)
			strain = watched()
			if err != nil {
				return burst, fmt.Errorf("tune: run a burst to %s: %w", text, err)
			}
			if err := ctx.Err(); err != nil {
				return burst, err // interrupted, so not finished
			}
			b.report.Processes++
			b.report.Seconds += burst.Result.Elapsed.Seconds()
			if burst.Result.Outcome != trainer.Killed || try == maxKilled {
				break
			}
			record() // and its time is not the study's: it decides as if nothing had happened
		}
		kept = burstRecord{key, stage, job.Budget, burst, strain}
		b.done[key] = kept
		if b.journal != nil && tells(burst) {
			if err := b.journal.Append(recordKind, kept); err != nil {
				return burst, fmt.Errorf("tune: %w", err)
			}
		}
	}
	b.strain = strain
	b.spent += burst.Result.Elapsed
	record()
	return burst, nil
}

// tells reports whether a burst says something about its configuration that
// will hold the next time, and so is kept. A death does not: a signal from
// outside or other programs' memory may be behind it, and it is met again if
// they were not.
func tells(b trainer.Burst) bool { return b.Result.Outcome.Good() }

// key identifies a burst: what is run, on what, with what. The budget takes no
// part: it follows from how long other bursts took.
func (b *bench) key(job trainer.Job) string {
	text, err := json.Marshal(struct {
		Job  trainer.Job
		Keys Keys
	}{job, b.study.Keys})
	if err != nil {
		panic(fmt.Sprintf("tuner: job does not marshal: %v", err)) // plain data
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:8])
}

// outOfMemory reports a death that has or may have to do with memory.
func outOfMemory(b trainer.Burst) bool {
	f := b.Result.Failure
	return b.Result.Outcome == trainer.OOM || b.Result.SuspectedOOM || f != nil && f.FailKind == trainer.FailOOM
}

// hopeless reports a failure that another configuration would meet too.
func hopeless(b trainer.Burst) bool {
	f := b.Result.Failure
	return b.Result.Outcome == trainer.Failed && f != nil && f.FailKind != trainer.FailOOM && f.FailKind != trainer.FailNonFinite ||
		b.Result.Outcome == trainer.Broken
}
