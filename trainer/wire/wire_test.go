package wire_test

import (
	"bytes"
	"errors"
	"io"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/mlxdyno/mlxdyno/trainer"
	"github.com/mlxdyno/mlxdyno/trainer/wire"
)

// exact compares every field, also those of Opt, and takes NaN for equal to NaN.
var exact = cmp.Options{
	cmp.Exporter(func(reflect.Type) bool { return true }),
	cmp.Comparer(func(a, b trainer.Float) bool { return a == b || a != a && b != b }),
}

func encode(t interface{ Fatal(...any) }, events ...trainer.Event) []byte {
	var b bytes.Buffer
	w := wire.NewWriter(&b)
	for _, e := range events {
		if err := w.Write(e); err != nil {
			t.Fatal(err)
		}
	}
	return b.Bytes()
}

func TestEventLine(t *testing.T) {
	e := trainer.Event{Segment: 2, Seq: 5, Elapsed: 1250 * time.Millisecond, Step: 3,
		Payload: trainer.Eval{Loss: 1.5, Batches: 4, Seconds: 0.25}}
	want := `{"kind":"eval","segment":2,"seq":5,"elapsed":1.25,"step":3,"payload":{"loss":1.5,"batches":4,"seconds":0.25}}` + "\n"
	if diff := cmp.Diff(want, string(encode(t, e))); diff != "" {
		t.Error(diff)
	}
}

func TestNextTellsWhatIsWrongWithALine(t *testing.T) {
	const good = `{"kind":"done","segment":0,"seq":1,"elapsed":1,"step":1,"payload":{"reason":"steps"}}`
	tests := []struct {
		name, line, reason string
	}{
		{"garbage", "Traceback (most recent call last):", "not an event"},
		{"empty line", "", "not an event"},
		{"not an object", "[1,2]", "not an event"},
		{"two objects", good + good, "not an event"},
		{"no kind", `{"seq":1,"payload":{}}`, "has no kind"},
		{"negative seq", `{"kind":"done","seq":-1,"payload":{}}`, "negative"},
		{"negative elapsed", `{"kind":"done","elapsed":-1,"payload":{}}`, "no elapsed time"},
		{"endless elapsed", `{"kind":"done","elapsed":1e300,"payload":{}}`, "no elapsed time"},
		{"no payload", `{"kind":"done"}`, "not an object"},
		{"null payload", `{"kind":"step","payload":null}`, "not an object"},
		{"payload of another type", `{"kind":"step","payload":{"loss":[]}}`, "step event"},
		{"hello without a version", `{"kind":"hello","payload":7}`, "protocol version"},
		{"oversized", `{"kind":"` + strings.Repeat("x", wire.MaxLine) + `"}`, "more than the limit"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := wire.NewReader(strings.NewReader(tt.line + "\n" + good + "\n"))
			_, err := r.Next()
			var line *wire.LineError
			if !errors.As(err, &line) {
				t.Fatalf("got %v, want a LineError", err)
			}
			if line.Line != 1 || line.Torn || !strings.Contains(line.Reason, tt.reason) || len(err.Error()) > 1000 {
				t.Errorf("got %.1000v, want line 1 and %q", err, tt.reason)
			}
			e, err := r.Next()
			if err != nil || e.Payload.Kind() != trainer.KindDone {
				t.Errorf("the next line gives %v, %v", e, err)
			}
			if _, err := r.Next(); !errors.Is(err, io.EOF) {
				t.Errorf("the end gives %v", err)
			}
		})
	}
}

func TestATornLastLineIsToldApart(t *testing.T) {
	whole := encode(t, trainer.Event{Payload: trainer.Done{Reason: trainer.DoneSteps}})
	for cut := 1; cut < len(whole); cut++ {
		r := wire.NewReader(bytes.NewReader(whole[:cut]))
		_, err := r.Next()
		var line *wire.LineError
		if !errors.As(err, &line) || !line.Torn {
			t.Fatalf("cut after %d bytes: got %v, want a torn line", cut, err)
		}
		if _, err := r.Next(); !errors.Is(err, io.EOF) {
			t.Fatalf("cut after %d bytes: then %v, want the end", cut, err)
		}
	}
}

func TestLimitOfALine(t *testing.T) {
	for _, tt := range []struct {
		name string
		size int
		ok   bool
	}{{"as long as allowed", wire.MaxLine, true}, {"one byte more", wire.MaxLine + 1, false}} {
		t.Run(tt.name, func(t *testing.T) {
			l := wire.NewLines(strings.NewReader(strings.Repeat("x", tt.size-1) + "\n"))
			line, err := l.Next()
			if tt.ok != (err == nil) || tt.ok && len(line) != tt.size-1 {
				t.Errorf("got %d bytes, %v", len(line), err)
			}
		})
	}
	big := trainer.Event{Payload: trainer.Warning{Text: strings.Repeat("x", wire.MaxLine)}}
	if err := wire.NewWriter(io.Discard).Write(big); err == nil || !strings.Contains(err.Error(), "limit") {
		t.Errorf("writing an oversized event: %v", err)
	}
}

// endless gives a line that never ends, and counts what was read of it.
type endless struct{ read, limit int }

func (e *endless) Read(p []byte) (int, error) {
	if e.read >= e.limit {
		return 0, io.EOF
	}
	for i := range p {
		p[i] = 'x'
	}
	e.read += len(p)
	return len(p), nil
}

func TestAnEndlessLineIsNotKept(t *testing.T) {
	allocated := testing.Benchmark(func(b *testing.B) {
		for b.Loop() {
			if _, err := wire.NewLines(&endless{limit: 64 * wire.MaxLine}).Next(); !errors.As(err, new(*wire.LineError)) {
				b.Fatal(err)
			}
		}
	}).AllocedBytesPerOp()
	if allocated > 8*wire.MaxLine {
		t.Errorf("reading a line of 64 MiB allocated %d bytes", allocated)
	}
}

func TestVersion(t *testing.T) {
	tests := []struct {
		name, payload string
		refused       bool
	}{
		{"same", `{"protocol":[1,0]}`, false},
		{"newer minor version with a new field", `{"protocol":[1,7],"colour":"red"}`, false},
		{"newer major version", `{"protocol":[2,0],"engine":"x"}`, true},
		{"newer major version with other types", `{"protocol":[2,0],"engine":{"name":"x"},"pid":"one"}`, true},
		{"no version", `{}`, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := wire.NewReader(strings.NewReader(`{"kind":"hello","payload":` + tt.payload + "}\n")).Next()
			var version *wire.VersionError
			if errors.As(err, &version) != tt.refused || !tt.refused && err != nil {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestUnknownKindsAndFieldsPass(t *testing.T) {
	in := `{"kind":"weather","segment":0,"seq":3,"elapsed":0,"step":0,"colour":1,"payload":{"rain":[1,2]}}` + "\n"
	e, err := wire.NewReader(strings.NewReader(in)).Next()
	if err != nil {
		t.Fatal(err)
	}
	want := trainer.Event{Seq: 3, Payload: trainer.Unknown{Name: "weather", Raw: []byte(`{"rain":[1,2]}`)}}
	if diff := cmp.Diff(want, e, exact); diff != "" {
		t.Error(diff)
	}
}

func TestNumbersThatJSONHasNot(t *testing.T) {
	for _, v := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
		e := trainer.Event{Payload: trainer.Step{Loss: trainer.Float(v), LearningRate: trainer.Some(trainer.Float(v))}}
		got, err := wire.NewReader(bytes.NewReader(encode(t, e))).Next()
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(e, got, exact); diff != "" {
			t.Error(diff)
		}
	}
}

func TestWriteRefusesAnEventWithoutPayload(t *testing.T) {
	if err := wire.NewWriter(io.Discard).Write(trainer.Event{}); err == nil {
		t.Error("no error")
	}
}

func TestEveryEventRoundTrips(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		events := rapid.SliceOfN(anyEvent, 1, 5).Draw(t, "events")
		r := wire.NewReader(bytes.NewReader(encode(t, events...)))
		for _, want := range events {
			got, err := r.Next()
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got, exact); diff != "" {
				t.Fatal(diff)
			}
		}
		if _, err := r.Next(); !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
	})
}

func TestEveryJobRoundTrips(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := anyJob.Draw(t, "job")
		line, err := wire.EncodeJob(want)
		if err != nil {
			t.Fatal(err)
		}
		got, err := wire.DecodeCommand(line)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(wire.Command{Name: wire.CommandJob, Job: want}, got, exact); diff != "" {
			t.Fatal(diff)
		}
	})
}

func TestBudgetIsNeverRoundedToNoLimit(t *testing.T) {
	line, err := wire.EncodeJob(trainer.Job{Budget: time.Microsecond})
	if err != nil {
		t.Fatal(err)
	}
	c, err := wire.DecodeCommand(line)
	if err != nil || c.Job.Budget != time.Millisecond {
		t.Errorf("got %v, %v", c.Job.Budget, err)
	}
}

func TestCommands(t *testing.T) {
	tests := []struct {
		name, line string
		want       wire.Command
		bad        string
	}{
		{name: "stop and save", line: string(wire.EncodeStop(true)), want: wire.Command{Name: "stop", Checkpoint: true}},
		{name: "stop", line: string(wire.EncodeStop(false)), want: wire.Command{Name: "stop"}},
		{name: "one of a newer version", line: `{"command":"pause","for":3}`, want: wire.Command{Name: "pause"}},
		{name: "nameless", line: `{}`, bad: "no name"},
		{name: "job without a job", line: `{"command":"job"}`, bad: "without a job"},
		{name: "negative budget", line: `{"command":"job","job":{"budget_ms":-1}}`, bad: "budget"},
		{name: "budget beyond time", line: `{"command":"job","job":{"budget_ms":9223372036854775807}}`, bad: "budget"},
		{name: "garbage", line: `stop`, bad: "decode"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := wire.DecodeCommand([]byte(tt.line))
			if tt.bad != "" {
				if err == nil || !strings.Contains(err.Error(), tt.bad) {
					t.Errorf("got %v, want %q", err, tt.bad)
				}
				return
			}
			if diff := cmp.Diff(tt.want, got, exact); err != nil || diff != "" {
				t.Errorf("%v %s", err, diff)
			}
		})
	}
}

// FuzzReader: any input is read to its end, and what it gives as an event can
// be written and read again.
func FuzzReader(f *testing.F) {
	f.Add(encode(f, trainer.Event{Payload: trainer.Hello{Protocol: [2]int{1, 0}}}, trainer.Event{Seq: 1, Payload: trainer.Step{Loss: 1}}))
	f.Add([]byte("{\"kind\":\"weather\",\"payload\":null}\n\n{\"kind\":\"error\",\"payload\":{\"kind\":\"oom\"}}\nx"))
	f.Add([]byte(`{"kind":"hello","payload":{"protocol":[2,0]}}` + "\n" + `{"kind":"step","payload":{"loss":"NaN","memory":{"active":null}}}` + "\n"))
	f.Add(encode(f, trainer.Event{Payload: trainer.Span{Path: []string{"forward", "", "q_proj"}, Seconds: 0.5, GFLOP: trainer.Some(trainer.Float(3))}},
		trainer.Event{Payload: trainer.Held{Path: []string{"weights"}, Bytes: 7, Modelled: true}},
		trainer.Event{Payload: trainer.Profiled{Steps: 2, CeilingGFLOPS: trainer.Some(trainer.Float(9)), Spans: 1, Helds: 1}}))
	f.Add([]byte(`{"kind":"span","payload":{"path":null,"seconds":-1,"gflop":"NaN","bytes":null}}` + "\n" + `{"kind":"held","payload":{"path":[]}}` + "\n" + `{"kind":"profile","payload":{}}` + "\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		r := wire.NewReader(bytes.NewReader(in))
		for range bytes.Count(in, []byte("\n")) + 2 {
			e, err := r.Next()
			if errors.Is(err, io.EOF) {
				return
			}
			if errors.As(err, new(*wire.LineError)) || errors.As(err, new(*wire.VersionError)) {
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			again, err := wire.NewReader(bytes.NewReader(encode(t, e))).Next()
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(encode(t, e), encode(t, again)) {
				t.Fatalf("%+v became %+v", e, again)
			}
		}
		t.Fatal("more lines than newlines")
	})
}

func FuzzDecodeCommand(f *testing.F) {
	job, err := wire.EncodeJob(trainer.Job{Config: trainer.DefaultConfig(), Budget: time.Second, Shapes: []trainer.Shape{{Batch: 1, Width: 33, Steps: 2}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(job)
	f.Add(wire.EncodeStop(true))
	f.Fuzz(func(t *testing.T, in []byte) {
		c, err := wire.DecodeCommand(in)
		if err != nil || c.Name != wire.CommandJob {
			return
		}
		line, err := wire.EncodeJob(c.Job)
		if err != nil {
			return // longer than a line may be
		}
		again, err := wire.DecodeCommand(line)
		if err != nil {
			t.Fatal(err)
		}
		if c.Job.Budget != again.Job.Budget || c.Job.Config.Key() != again.Job.Config.Key() {
			t.Fatalf("%+v became %+v", c, again)
		}
	})
}
