package wire_test

import (
	"math"
	"reflect"
	"time"

	"pgregory.net/rapid"

	"github.com/mlxdyno/mlxdyno/trainer"
)

// The generators fill every exported field of a payload by reflection, so that
// a field added to the contract is tested without a word here.

var payloads = []trainer.Payload{
	trainer.Hello{}, trainer.Ready{}, trainer.Step{}, trainer.Phases{}, trainer.Span{}, trainer.Held{}, trainer.Profiled{}, trainer.Eval{},
	trainer.Checkpoint{}, trainer.Warning{}, trainer.Done{}, trainer.Failure{},
}

var anyEvent = rapid.Custom(func(t *rapid.T) trainer.Event {
	return trainer.Event{
		Segment: rapid.IntRange(0, 1000).Draw(t, "segment"),
		Seq:     rapid.Int64Range(0, math.MaxInt64).Draw(t, "seq"),
		Elapsed: time.Duration(rapid.Int64Range(0, int64(26*24*time.Hour)).Draw(t, "elapsed")),
		Step:    rapid.IntRange(0, math.MaxInt).Draw(t, "step"),
		Payload: anyPayload.Draw(t, "payload"),
	}
})

var anyPayload = rapid.Custom(func(t *rapid.T) trainer.Payload {
	i := rapid.IntRange(0, len(payloads)).Draw(t, "kind")
	if i == len(payloads) {
		raw := rapid.SampledFrom([]string{"", "null", "1", `{"a":["<&>",null]}`}).Draw(t, "raw")
		u := trainer.Unknown{Name: "new-" + trainer.Kind(rapid.String().Draw(t, "name"))}
		if raw != "" {
			u.Raw = []byte(raw)
		}
		return u
	}
	v := reflect.New(reflect.TypeOf(payloads[i])).Elem()
	fill(t, v)
	if hello, ok := v.Interface().(trainer.Hello); ok {
		hello.Protocol[0] = trainer.ProtocolMajor
		return hello
	}
	return v.Interface().(trainer.Payload)
})

var anyJob = rapid.Custom(func(t *rapid.T) trainer.Job {
	var job trainer.Job
	fill(t, reflect.ValueOf(&job).Elem())
	job.Budget = time.Duration(rapid.Int64Range(0, 1e9).Draw(t, "budget")) * time.Millisecond
	job.MaxPeakBytes = 0 // the parent keeps it
	return job
})

func fill(t *rapid.T, v reflect.Value) {
	if opt, ok := optional(t, v.Type()); ok {
		v.Set(opt)
		return
	}
	switch p := v.Addr().Interface().(type) {
	case *trainer.Float:
		*p = trainer.Float(rapid.Float64().Draw(t, "float"))
		if rapid.IntRange(0, 9).Draw(t, "special") == 0 {
			*p = trainer.Float(math.NaN())
		}
		return
	case *trainer.Limit:
		if p.IsSet = rapid.Bool().Draw(t, "set"); p.IsSet {
			p.Bytes = rapid.Int64().Draw(t, "bytes")
		}
		return
	}
	switch v.Kind() {
	case reflect.Bool:
		v.SetBool(rapid.Bool().Draw(t, "bool"))
	case reflect.Int, reflect.Int64:
		v.SetInt(rapid.Int64().Draw(t, "int"))
	case reflect.Uint64:
		v.SetUint(rapid.Uint64().Draw(t, "uint"))
	case reflect.Float64:
		v.SetFloat(rapid.Float64().Draw(t, "float"))
	case reflect.String:
		v.SetString(rapid.String().Draw(t, "string"))
	case reflect.Struct:
		for i := range v.NumField() {
			fill(t, v.Field(i))
		}
	case reflect.Array:
		for i := range v.Len() {
			fill(t, v.Index(i))
		}
	case reflect.Slice:
		if n := rapid.IntRange(0, 3).Draw(t, "len"); n > 0 {
			v.Set(reflect.MakeSlice(v.Type(), n, n))
			for i := range n {
				fill(t, v.Index(i))
			}
		}
	case reflect.Map:
		if n := rapid.IntRange(0, 3).Draw(t, "len"); n > 0 {
			v.Set(reflect.MakeMap(v.Type()))
			for range n {
				key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
				fill(t, key)
				fill(t, value)
				v.SetMapIndex(key, value)
			}
		}
	case reflect.Pointer:
		if rapid.Bool().Draw(t, "present") {
			v.Set(reflect.New(v.Type().Elem()))
			fill(t, v.Elem())
		}
	default:
		t.Fatalf("no generator for %s", v.Type())
	}
}

// optional generates the kinds of trainer.Opt that payloads use.
func optional(t *rapid.T, typ reflect.Type) (reflect.Value, bool) {
	known := func(v any, some any) reflect.Value {
		if rapid.Bool().Draw(t, "known") {
			return reflect.ValueOf(some)
		}
		return reflect.ValueOf(v)
	}
	switch typ {
	case reflect.TypeFor[trainer.Opt[int]]():
		return known(trainer.Opt[int]{}, trainer.Some(rapid.Int().Draw(t, "opt"))), true
	case reflect.TypeFor[trainer.Opt[int64]]():
		return known(trainer.Opt[int64]{}, trainer.Some(rapid.Int64().Draw(t, "opt"))), true
	case reflect.TypeFor[trainer.Opt[float64]]():
		return known(trainer.Opt[float64]{}, trainer.Some(rapid.Float64().Draw(t, "opt"))), true
	case reflect.TypeFor[trainer.Opt[trainer.Float]]():
		return known(trainer.Opt[trainer.Float]{}, trainer.Some(trainer.Float(rapid.Float64().Draw(t, "opt")))), true
	}
	return reflect.Value{}, false
}
