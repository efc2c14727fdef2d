package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"time"

	"github.com/mlxdyno/mlxdyno/trainer"
)

// envelope is an event line. Payload stays raw until the kind is known.
type envelope struct {
	Kind    trainer.Kind    `json:"kind"`
	Segment int             `json:"segment"`
	Seq     int64           `json:"seq"`
	Elapsed float64         `json:"elapsed"` // seconds; exact to the nanosecond for 26 days
	Step    int             `json:"step"`
	Payload json.RawMessage `json:"payload,omitempty"`
}

// VersionError tells of a worker that speaks another major version.
type VersionError struct {
	Got, Want [2]int // major, minor
}

func (e *VersionError) Error() string {
	return fmt.Sprintf("worker speaks protocol %d.%d, this program %d.%d: run `mlxdyno setup` so that both come from one version",
		e.Got[0], e.Got[1], e.Want[0], e.Want[1])
}

// Reader reads the events of one worker.
type Reader struct{ lines *Lines }

// NewReader returns a reader of the event lines in r.
func NewReader(r io.Reader) *Reader { return &Reader{lines: NewLines(r)} }

// Next returns the next event. It returns io.EOF after the last, *LineError for
// a line that is no event, *VersionError for the hello of another major version
// of the protocol, or the input's own error. Reading may go on after the first
// two kinds of error.
func (r *Reader) Next() (trainer.Event, error) {
	line, err := r.lines.Next()
	if err != nil {
		return trainer.Event{}, err
	}
	return decodeEvent(r.lines.n, line)
}

func decodeEvent(n int, line []byte) (trainer.Event, error) {
	fail := func(format string, args ...any) (trainer.Event, error) {
		return trainer.Event{}, lineError(n, line, format, args...)
	}
	var w envelope
	if err := json.Unmarshal(line, &w); err != nil {
		return fail("not an event: %v", err)
	}
	elapsed := math.Round(w.Elapsed * float64(time.Second))
	switch {
	case w.Kind == "":
		return fail("not an event: it has no kind")
	case w.Segment < 0 || w.Seq < 0 || w.Step < 0:
		return fail("%s event: a negative segment, seq or step", w.Kind)
	case elapsed < 0 || elapsed >= math.MaxInt64:
		return fail("%s event: %g is no elapsed time", w.Kind, w.Elapsed)
	}
	payload, err := decodePayload(w.Kind, w.Payload)
	if errors.As(err, new(*VersionError)) {
		return trainer.Event{}, err
	}
	if err != nil {
		return fail("%s event: %v", w.Kind, err)
	}
	return trainer.Event{Segment: w.Segment, Seq: w.Seq, Elapsed: time.Duration(elapsed), Step: w.Step, Payload: payload}, nil
}

func decodePayload(kind trainer.Kind, raw json.RawMessage) (trainer.Payload, error) {
	switch kind {
	case trainer.KindHello:
		if err := checkVersion(raw); err != nil {
			return nil, err
		}
		return decodeAs[trainer.Hello](raw)
	case trainer.KindReady:
		return decodeAs[trainer.Ready](raw)
	case trainer.KindStep:
		return decodeAs[trainer.Step](raw)
	case trainer.KindPhases:
		return decodeAs[trainer.Phases](raw)
	case trainer.KindSpan:
		return decodeAs[trainer.Span](raw)
	case trainer.KindHeld:
		return decodeAs[trainer.Held](raw)
	case trainer.KindProfile:
		return decodeAs[trainer.Profiled](raw)
	case trainer.KindEval:
		return decodeAs[trainer.Eval](raw)
	case trainer.KindCheckpoint:
		return decodeAs[trainer.Checkpoint](raw)
	case trainer.KindWarning:
		return decodeAs[trainer.Warning](raw)
	case trainer.KindDone:
		return decodeAs[trainer.Done](raw)
	case trainer.KindError:
		return decodeAs[trainer.Failure](raw)
	}
	return trainer.Unknown{Name: kind, Raw: raw}, nil
}

func decodeAs[P trainer.Payload](raw json.RawMessage) (trainer.Payload, error) {
	var p P
	if !bytes.HasPrefix(raw, []byte("{")) {
		return nil, fmt.Errorf("its payload is not an object")
	}
	if err := json.Unmarshal(raw, &p); err != nil {
		return nil, err
	}
	return p, nil
}

// checkVersion looks at the version alone: another major version may have
// changed every other field.
func checkVersion(raw json.RawMessage) error {
	var hello struct {
		Protocol [2]int `json:"protocol"`
	}
	if err := json.Unmarshal(raw, &hello); err != nil {
		return fmt.Errorf("no readable protocol version: %w", err)
	}
	if hello.Protocol[0] != trainer.ProtocolMajor {
		return &VersionError{Got: hello.Protocol, Want: [2]int{trainer.ProtocolMajor, trainer.ProtocolMinor}}
	}
	return nil
}

// Writer writes event lines, each with one call to the underlying writer.
type Writer struct{ out io.Writer }

// NewWriter returns a writer of event lines to w. It does not number events.
func NewWriter(w io.Writer) *Writer { return &Writer{out: w} }

// Write writes one event.
func (w *Writer) Write(e trainer.Event) error {
	line, err := encodeEvent(e)
	if err != nil {
		return fmt.Errorf("encode event %d: %w", e.Seq, err)
	}
	if _, err := w.out.Write(line); err != nil {
		return fmt.Errorf("write event %d: %w", e.Seq, err)
	}
	return nil
}

func encodeEvent(e trainer.Event) ([]byte, error) {
	if e.Payload == nil {
		return nil, fmt.Errorf("it has no payload")
	}
	w := envelope{Kind: e.Payload.Kind(), Segment: e.Segment, Seq: e.Seq, Elapsed: e.Elapsed.Seconds(), Step: e.Step}
	if u, ok := e.Payload.(trainer.Unknown); ok {
		w.Payload = u.Raw
	} else {
		raw, err := marshal(e.Payload)
		if err != nil {
			return nil, err
		}
		w.Payload = raw
	}
	return marshalLine(w)
}

// marshalLine returns v as one line. Unlike json.Marshal it leaves <, > and &
// as they are: log texts are full of them.
func marshalLine(v any) ([]byte, error) {
	line, err := marshal(v)
	if err != nil {
		return nil, err
	}
	if len(line) > MaxLine {
		return nil, fmt.Errorf("%d bytes, more than the limit of %d a line", len(line), MaxLine)
	}
	return line, nil
}

func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}
