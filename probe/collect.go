package probe

import (
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
	TopProcesses int        // how many of the largest processes to list
}

const readerTimeout = time.Second

// Collect reads the machine now. Everything is read at once, each part with a
// time limit of its own: what hangs, fails or panics leaves its values unknown,
// says why, and hides nothing else.
func Collect(ctx context.Context, r Request) Snapshot {
	return collect(ctx, blank(r), append(platformReaders(r), commonReaders(r)...), readerTimeout)
}

// ReadPressure reads only how hard memory is to get, quickly enough to be asked
// every second.
func ReadPressure(ctx context.Context) Pressure {
	var s Snapshot
	all := []any{&s.Pressure.Level, &s.Pressure.SomeAvg10, &s.Pressure.FullAvg10, &s.Pressure.OOMKills}
	readers := slices.DeleteFunc(platformReaders(Request{}), func(r reader) bool {
		return !slices.ContainsFunc(r.fills(&s), func(part any) bool { return part == any(&s.Pressure) || slices.Contains(all, part) })
	})
	return collect(ctx, blank(Request{}), readers, readerTimeout).Pressure
}

// A reader fills some parts of a snapshot.
type reader struct {
	read  func(ctx context.Context, s *Snapshot)
	fills func(s *Snapshot) []any // pointers to exactly the parts that read sets
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
		func(_ context.Context, s *Snapshot) { s.Disk = readDisk(r.Home) },
		func(s *Snapshot) []any { return []any{&s.Disk} },
	}}
	if r.ModelPath != "" {
		readers = append(readers, reader{
			func(_ context.Context, s *Snapshot) { s.Model = readModel(r.ModelPath) },
			func(s *Snapshot) []any { return []any{&s.Model} },
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

// collect runs the readers and puts their parts into s. A reader works on a
// snapshot of its own, so that one that is given up on can do no harm later.
func collect(ctx context.Context, s Snapshot, readers []reader, limit time.Duration) Snapshot {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()

	type outcome struct {
		part    *Snapshot
		problem string
	}
	outcomes := make([]chan outcome, len(readers))
	for i, r := range readers {
		ch, part := make(chan outcome, 1), s
		outcomes[i] = ch
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
		case <-ctx.Done():
			select {
			case got = <-outcomes[i]: // ready at the same moment
			default:
				got.problem = whyStopped(ctx, limit)
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
	explainAll("not reported on "+s.Host.OS, &s.Host, &s.Memory, &s.Cgroup, &s.Swap, &s.Pressure, &s.GPU, &s.Processes, &s.Disk)
	return s
}

func whyStopped(ctx context.Context, limit time.Duration) string {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return fmt.Sprintf("timed out after %s", limit)
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
