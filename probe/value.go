package probe

import (
	"bytes"
	"encoding/json"
	"errors"
)

// Value is something that was read from the machine, or the reason why it
// could not be. The zero Value is unknown with the reason "not read".
type Value[T any] struct {
	v      T
	known  bool
	source string
	reason string
}

// Known returns a value that was read from source, for instance
// "sysctl hw.memsize" or "/proc/meminfo MemAvailable".
func Known[T any](v T, source string) Value[T] {
	return Value[T]{v: v, known: true, source: source}
}

// Unknown returns the absence of a value, with the reason and the source that
// failed.
func Unknown[T any](reason, source string) Value[T] {
	return Value[T]{reason: reason, source: source}
}

// Get returns the value and whether it is known.
func (v Value[T]) Get() (T, bool) { return v.v, v.known }

// Or returns the value, or fallback when it is unknown.
func (v Value[T]) Or(fallback T) T {
	if v.known {
		return v.v
	}
	return fallback
}

// Known reports whether there is a value.
func (v Value[T]) Known() bool { return v.known }

// Source names where the value came from, or would have.
func (v Value[T]) Source() string { return v.source }

// Reason says why the value is unknown; empty when it is known.
func (v Value[T]) Reason() string {
	if v.known {
		return ""
	}
	if v.reason == "" {
		return "not read"
	}
	return v.reason
}

type valueJSON[T any] struct {
	Value   *T     `json:"value,omitempty"`
	Unknown string `json:"unknown,omitempty"`
	Source  string `json:"source,omitempty"`
}

func (v Value[T]) MarshalJSON() ([]byte, error) {
	if v.known {
		return json.Marshal(valueJSON[T]{Value: &v.v, Source: v.source})
	}
	return json.Marshal(valueJSON[T]{Unknown: v.Reason(), Source: v.source})
}

func (v *Value[T]) UnmarshalJSON(b []byte) error {
	var j valueJSON[T]
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&j); err != nil {
		return err
	}
	switch {
	case j.Value != nil && j.Unknown != "":
		return errors.New("a value cannot be known and unknown at once")
	case j.Value != nil:
		*v = Known(*j.Value, j.Source)
	default:
		*v = Unknown[T](j.Unknown, j.Source)
	}
	return nil
}

// explain gives an unknown value that says nothing of itself a reason.
func (v *Value[T]) explain(reason string) {
	if !v.known && v.reason == "" {
		v.reason = reason
	}
}
