package run

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/mlxdyno/mlxdyno/trainer"
	"github.com/mlxdyno/mlxdyno/trainer/worker"
)

// Plan is a training to be done.
type Plan struct {
	Engine   trainer.Engine
	Config   trainer.Settings   // with Resume, the zero value takes the run's own
	Tokens   trainer.TokenFiles // with Resume, the zero value takes the run's own
	Dir      string             // the run directory: new or empty, with Resume an existing run
	Expected *trainer.Expected  // promised figures, or nil
	Identity Identity
	Resume   bool
	Policy   Policy

	// GuardBytes is the memory of the worker above which it is reloaded: the
	// larger of its footprint and MLX's active and cached bytes. 0 is no guard,
	// with Resume the run's own.
	GuardBytes int64

	// ProfileSteps asks for a profile of so many steps, rounded up to whole
	// updates: the first ones of a new training, the next ones of a resumed one
	// that has no profile. 0 asks for none, with Resume for what the run was
	// asked for. An engine that cannot refuses (*NoProfilesError).
	ProfileSteps int

	// Segment is told, before the first event of each worker process, the
	// configuration that it trains with: the one planned until a back-off. Nil
	// tells nobody.
	Segment func(trainer.Config)

	// Sample reads the machine's memory pressure; nil leaves it unwatched.
	Sample func() MemoryPressure

	Worker worker.Options   // how each process is supervised; Train sets LogPath and Lock
	Now    func() time.Time // nil for time.Now
}

// Policy bounds what is done about failures. Its zero value is the default.
type Policy struct {
	MaxRetries int // restarts with the same configuration and no new checkpoint between them; 0 means 3, less than 0 none
	Keep       int // checkpoints that stay on disk; 0 means 3
}

func (p Policy) withDefaults() Policy {
	if p.MaxRetries == 0 {
		p.MaxRetries = 3
	}
	if p.Keep == 0 {
		p.Keep = 3
	}
	return p
}

// MemoryPressure is the machine's own word on its memory.
type MemoryPressure struct {
	Critical bool
	Text     string // what was read, for the note
}

// Observer sees a training as it goes, in order, from one goroutine at a time.
// What it sees is already in the run directory.
type Observer interface {
	Event(trainer.Event)
	Note(Note)
}

// Change is one difference between a run and what it is asked to go on with.
type Change struct {
	What string `json:"what"`
	Was  string `json:"was"`
	Is   string `json:"is"`
}

func (c Change) String() string { return fmt.Sprintf("%s was %s and is %s", c.What, c.Was, c.Is) }

// ChangedError refuses to go on with something else than was begun.
type ChangedError struct {
	Dir     string
	Changes []Change
}

func (e *ChangedError) Error() string {
	var parts []string
	for _, c := range e.Changes {
		parts = append(parts, c.String())
	}
	return fmt.Sprintf("resume %s: not the same training: %s; put it back, or start a new run", e.Dir, strings.Join(parts, "; "))
}

// FinishedError says that there is nothing left to train.
type FinishedError struct {
	Dir     string
	Adapter string
}

func (e *FinishedError) Error() string {
	return fmt.Sprintf("resume %s: already finished; its adapter is %s", e.Dir, e.Adapter)
}

// subjectChanges are differences in what is trained on; they refuse a resume.
// What one side does not know is not compared.
func subjectChanges(was, is Identity) []Change {
	var out []Change
	differ(&out, "model", was.Model, is.Model)
	differ(&out, "data", was.Data, is.Data)
	return out
}

// groundChanges are differences in what computes; they may move the last bits
// of the losses, no more.
func groundChanges(was, is Identity) []Change {
	var out []Change
	for _, name := range slices.Sorted(maps.Keys(was.Versions)) {
		differ(&out, name, was.Versions[name], is.Versions[name])
	}
	differ(&out, "BLAS", was.BLAS, is.BLAS)
	if was.Threads.Known() && is.Threads.Known() {
		differ(&out, "BLAS threads", was.Threads.String(), is.Threads.String())
	}
	differ(&out, "device", was.Device.Kind, is.Device.Kind)
	differ(&out, "device name", was.Device.Name, is.Device.Name)
	return out
}

func differ(out *[]Change, what, was, is string) {
	if was != "" && is != "" && was != is {
		*out = append(*out, Change{What: what, Was: was, Is: is})
	}
}

// with returns id with every field that is known to other taken from it.
func (id Identity) with(other Identity) Identity {
	versions := maps.Clone(id.Versions)
	if versions == nil {
		versions = map[string]string{}
	}
	maps.Copy(versions, other.Versions)
	id.Versions = versions
	id.Model, id.Data, id.BLAS = cmp.Or(other.Model, id.Model), cmp.Or(other.Data, id.Data), cmp.Or(other.BLAS, id.BLAS)
	if other.Threads.Known() {
		id.Threads = other.Threads
	}
	if other.Device != (trainer.Device{}) {
		id.Device = other.Device
	}
	return id
}

func identityOf(h trainer.Hello) Identity {
	return Identity{Versions: h.Versions, BLAS: h.BLAS, Threads: h.Threads, Device: h.Device}
}

// harmless are the knobs that may change between a run and its resumption:
// they change neither the order of the data nor the arithmetic.
var harmless = []string{"memory-limit", "cache-limit", "wired-limit", "save-every", "reload-interval", "adapter-path"}

// adopt carries over what is asked for now to what the run was asked for and
// to the configuration in force, and returns the differences it must not carry
// over. A harmless value that the run was asked for before is put in force only
// when a flag gives it again: it may have been given up for want of memory.
func adopt(inForce trainer.Config, was, is trainer.Settings) (trainer.Config, trainer.Settings, []Change) {
	var refused []Change
	was.Origins = maps.Clone(was.Origins)
	for _, k := range trainer.Knobs {
		old, now, want, origin := k.Get(&was.Config), k.Get(&inForce), k.Get(&is.Config), is.Origin(k.Name)
		switch {
		case !slices.Contains(harmless, k.Name):
			if want != old && want != now {
				refused = append(refused, Change{What: k.Name, Was: old, Is: want})
			}
		case origin == trainer.FromDefault, want == old && origin != trainer.FromFlag: // nobody's wish
		default:
			if err := errors.Join(k.Set(&inForce, want), was.Set(k.Name, want, origin)); err != nil {
				refused = append(refused, Change{What: k.Name, Was: old, Is: want})
			}
		}
	}
	return inForce, was, refused
}

// movesAdapter reports whether a resumption asks for another place for the
// adapter. The same words do not: a relative path is meant from where the run
// was begun.
func movesAdapter(was, is trainer.Settings) bool {
	const knob = "adapter-path"
	return is.Origin(knob) != trainer.FromDefault &&
		(was.Origin(knob) == trainer.FromDefault || was.Config.Output.AdapterPath != is.Config.Output.AdapterPath)
}

// publishPath is where the finished adapter is copied: only where somebody
// asked for it, and only if nothing else is in the way (*PlaceError).
func publishPath(s trainer.Settings, dir string) (string, error) {
	c := s.Config
	if s.Origin("adapter-path") == trainer.FromDefault || c.Output.AdapterPath == "" {
		return "", nil
	}
	return placeFor(c.Output.AdapterPath, c.Model.Path, c.Data.Path, dir, ".")
}
