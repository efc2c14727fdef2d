package probe

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"reflect"
	"runtime"
	"slices"
	"time"

	"github.com/mlxdyno/mlxdyno/probe/model"
)

// Request says what a snapshot should hold beyond the machine itself.
type Request struct {
	Home         string     // of mlxdyno; Disk describes its file system
	Install      Install    // taken over as it is
	ModelPath    string     // directory to read; empty for none
	Data         *DataState // taken over as it is
	LastRun      *LastRun   // taken over as it is
	TopProcesses int        // how many of the largest processes to list
	Slow         bool       // also ask programs that take their time
}

// Every reader has a time limit of its own. What a driver's tool needs to wake
// an idle device, and top to look at every process, is longer than the rest.
const (
	readerTimeout = time.Second
	slowTimeout   = 5 * time.Second
	grace         = 50 * time.Millisecond
)

// Collect reads the machine now. Everything is read at once, each part with a
// time limit of its own: what hangs, fails or panics leaves its values unknown,
// says why, and hides nothing else.
func Collect(ctx context.Context, r Request) Snapshot {
	return collect(ctx, blank(r), append(platformReaders(r), commonReaders(r)...), readerTimeout)
}

// ReadPressure reads only how hard memory is to get, quickly enough to be asked
// every second.
func ReadPressure(ctx context.Context) Pressure {
	return readOnly(ctx, func(s *Snapshot) []any { return []any{&s.Pressure} }).Pressure
}

// ReadVitals reads only what changes while steps run.
func ReadVitals(ctx context.Context) Vitals {
	s := readOnly(ctx, func(s *Snapshot) []any { return []any{&s.Swap, &s.Pressure, &s.Host.Thermal} })
	return Vitals{Swap: s.Swap, Pressure: s.Pressure, Thermal: s.Host.Thermal}
}

// Vitals returns what a snapshot has of them.
func (s Snapshot) Vitals() Vitals {
	return Vitals{Swap: s.Swap, Pressure: s.Pressure, Thermal: s.Host.Thermal}
}

// readOnly collects with the readers alone that fill some of the parts.
func readOnly(ctx context.Context, parts func(*Snapshot) []any) Snapshot {
	var s Snapshot
	var wanted []any
	for _, p := range parts(&s) {
		wanted = append(wanted, p)
		if v := reflect.ValueOf(p).Elem(); v.Kind() == reflect.Struct {
			for i := range v.NumField() {
				if f := v.Field(i).Addr(); f.CanInterface() {
					wanted = append(wanted, f.Interface())
				}
			}
		}
	}
	readers := slices.DeleteFunc(platformReaders(Request{}), func(r reader) bool {
		return !slices.ContainsFunc(r.fills(&s), func(part any) bool { return slices.Contains(wanted, part) })
	})
	return collect(ctx, blank(Request{}), readers, readerTimeout)
}

// A reader fills some parts of a snapshot.
type reader struct {
	read  func(ctx context.Context, s *Snapshot)
	fills func(s *Snapshot) []any // pointers to exactly the parts that read sets
	limit time.Duration           // 0 is the usual one
}

// blank is the snapshot before anything is read.
func blank(r Request) Snapshot {
	s := Snapshot{
		Schema:  SnapshotSchema,
		At:      time.Now().UTC(),
		Host:    Host{OS: runtime.GOOS, Arch: runtime.GOARCH},
		GPU:     GPU{Kind: gpuKind()},
		Install: r.Install,
		Data:    r.Data,
		LastRun: r.LastRun,
	}
	if runtime.GOOS == "linux" {
		s.Cgroup = &Cgroup{}
	}
	switch s.GPU.Kind {
	case "metal":
		s.GPU.WorkingSetBytes = Unknown[int64]("only MLX reports it, and no worker has run", "mlx device_info")
	case "none":
		explainAll("no GPU that MLX could use was found", &s.GPU)
	}
	if r.ModelPath != "" {
		s.Model = &ModelState{Path: r.ModelPath}
	}
	return s
}

// commonReaders are those that work alike everywhere.
func commonReaders(r Request) []reader {
	readers := []reader{{
		read:  func(_ context.Context, s *Snapshot) { s.Disk = readDisk(r.Home) },
		fills: func(s *Snapshot) []any { return []any{&s.Disk} },
	}}
	if r.ModelPath != "" {
		readers = append(readers, reader{
			read:  func(_ context.Context, s *Snapshot) { s.Model = readModel(r.ModelPath) },
			fills: func(s *Snapshot) []any { return []any{&s.Model} },
		})
	}
	return readers
}

func readModel(path string) *ModelState {
	facts, err := model.Read(path)
	if err != nil {
		return &ModelState{Path: path, Problem: err.Error()}
	}
	return &ModelState{Path: path, Facts: facts}
}

// collect runs the readers and puts their parts into s; usual is the limit of
// those that have none of their own. A reader works on a snapshot of its own,
// so that one that is given up on can do no harm later.
//
// A reader whose time is over gets a moment to end the program that it waits for:
// this process may end right after, and leave it behind.
func collect(ctx context.Context, s Snapshot, readers []reader, usual time.Duration) Snapshot {
	type outcome struct {
		part    *Snapshot
		problem string
	}
	outcomes := make([]chan outcome, len(readers))
	limits := make([]context.Context, len(readers))
	for i, r := range readers {
		limit := cmp.Or(r.limit, usual)
		ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("timed out after %s", limit))
		defer cancel()
		ch, part := make(chan outcome, 1), s
		outcomes[i], limits[i] = ch, ctx
		go func() {
			defer func() {
				if p := recover(); p != nil {
					ch <- outcome{problem: fmt.Sprintf("the reader panicked: %v", p)}
				}
			}()
			r.read(ctx, &part)
			ch <- outcome{part: &part}
		}()
	}

	for i, r := range readers {
		var got outcome
		select {
		case got = <-outcomes[i]:
		case <-limits[i].Done():
			select {
			case got = <-outcomes[i]: // ready at the same moment
			case <-time.After(grace):
				got.problem = whyStopped(limits[i])
			}
		}
		parts := r.fills(&s)
		if got.part == nil {
			explainAll(got.problem, parts...)
			continue
		}
		for j, from := range r.fills(got.part) {
			reflect.ValueOf(parts[j]).Elem().Set(reflect.ValueOf(from).Elem())
		}
	}
	explainAll("not reported on "+s.Host.OS, &s.Host, &s.Memory, &s.Cgroup, &s.Swap, &s.Pressure, &s.GPU, &s.Processes, &s.Disk, &s.Crashes, &s.CrashesFound)
	return s
}

func whyStopped(ctx context.Context) string {
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
		return cause.Error()
	}
	return "cancelled"
}

type explainer interface{ explain(reason string) }

// explainAll gives a reason to every value inside parts, which are pointers,
// that is unknown without one.
func explainAll(reason string, parts ...any) {
	for _, p := range parts {
		explainIn(reason, reflect.ValueOf(p).Elem())
	}
}

func explainIn(reason string, v reflect.Value) {
	if !v.CanInterface() { // inside a time, say
		return
	}
	if e, ok := v.Addr().Interface().(explainer); ok {
		e.explain(reason)
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			explainIn(reason, v.Elem())
		}
	case reflect.Struct:
		for i := range v.NumField() {
			explainIn(reason, v.Field(i))
		}
	case reflect.Slice:
		for i := range v.Len() {
			explainIn(reason, v.Index(i))
		}
	}
}

func (m *ModelState) explain(reason string) {
	if m.Facts == nil && m.Problem == "" {
		m.Problem = reason
	}
}
