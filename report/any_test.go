package report

import (
	"flag"
	"io"
	"reflect"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/mlxdyno/mlxdyno/mlxbind/install"
	"github.com/mlxdyno/mlxdyno/probe"
	"github.com/mlxdyno/mlxdyno/probe/diagnose"
	"github.com/mlxdyno/mlxdyno/trainer"
	"github.com/mlxdyno/mlxdyno/trainer/run"
	"github.com/mlxdyno/mlxdyno/tuner"
	"github.com/mlxdyno/mlxdyno/tuner/compare"
	"github.com/mlxdyno/mlxdyno/tuner/fits"
)

// TestAnyDocument renders documents that hold anything, non-finite numbers and
// hostile text included: none may break the layout.
func TestAnyDocument(t *testing.T) {
	if checks := flag.Lookup("rapid.checks"); checks.Value.String() == checks.DefValue {
		if err := checks.Value.Set("30"); err != nil { // each document is large
			t.Fatal(err)
		}
	}
	t.Run("doctor", rapid.MakeCheck(anyDocument(func(w io.Writer, r diagnose.Report, s Style) error { return Doctor(w, r, s) })))
	t.Run("tune", rapid.MakeCheck(anyDocument(func(w io.Writer, r tuner.Report, s Style) error { return Tune(w, r, s, Onward{}) })))
	t.Run("compare", rapid.MakeCheck(anyDocument(func(w io.Writer, r compare.Report, s Style) error { return Compare(w, r, s) })))
	t.Run("fits", rapid.MakeCheck(anyDocument(func(w io.Writer, r fits.Report, s Style) error { return Fits(w, r, s) })))
	t.Run("train", rapid.MakeCheck(anyDocument(func(w io.Writer, r run.Report, s Style) error { return Train(w, r, s, "python") })))
	t.Run("setup", rapid.MakeCheck(anyDocument(func(w io.Writer, r install.Report, s Style) error { return Setup(w, nil, r, s) })))
	t.Run("runs", rapid.MakeCheck(anyDocument(func(w io.Writer, r run.Info, s Style) error { return Runs(w, []run.Info{r, r}, s) })))
	t.Run("fuse", rapid.MakeCheck(anyDocument(func(w io.Writer, d FuseDocument, s Style) error { return Fuse(w, d, s, "python") })))
	t.Run("status", rapid.MakeCheck(anyDocument(func(w io.Writer, r run.Progress, s Style) error {
		_, err := io.WriteString(w, StatusLine(r, s, s.width())+"\n")
		return err
	})))
}

func anyDocument[T any](show func(io.Writer, T, Style) error) func(*rapid.T) {
	return func(t *rapid.T) {
		var document T
		fill(t, reflect.ValueOf(&document).Elem(), 0)
		s := Style{
			Width:   rapid.IntRange(0, 150).Draw(t, "width"),
			ASCII:   rapid.Bool().Draw(t, "ascii"),
			Verbose: rapid.Bool().Draw(t, "verbose"),
		}
		var b lines
		if err := show(&b, document, s); err != nil {
			t.Fatal(err)
		}
		b.check(t, s)
	}
}

// lines checks what is written to it.
type lines struct{ text []byte }

func (l *lines) Write(p []byte) (int, error) {
	l.text = append(l.text, p...)
	return len(p), nil
}

func (l *lines) check(t *rapid.T, s Style) {
	for i, c := range l.text {
		if c < ' ' && c != '\n' || c == 0x7f || s.ASCII && c >= 0x80 {
			t.Fatalf("byte %d is %#x: %q", i, c, l.text)
		}
	}
	checkLayout(t, "document", string(l.text), s)
}

var texts = rapid.OneOf(
	rapid.SampledFrom([]string{"", "a", "a short sentence about something", "/a/very/long/path/without/any/blank/in/it/that/goes/on/and/on/and/on/beyond/every/terminal/there/is",
		"two\nlines", "\x1b[31mred\x1b[0m", "tab\tand\rreturn", "\xff\xfe", "表は広い文字で書かれている", "1 2 3 GB", "   ", "–"}),
	rapid.String(),
)

var floats = rapid.OneOf(rapid.Float64(), rapid.SampledFrom([]float64{0, nan, 1 / zero, -1 / zero, 0.5, 1234.5}))

var zero float64

// fill puts arbitrary values into v.
func fill(t *rapid.T, v reflect.Value, depth int) {
	switch x := v.Addr().Interface().(type) {
	case *time.Time:
		*x = time.Unix(rapid.Int64Range(-1<<33, 1<<33).Draw(t, "time"), 0).UTC()
		return
	case *time.Duration:
		*x = time.Duration(rapid.Int64().Draw(t, "duration"))
		return
	case *trainer.Opt[int64]:
		optional(t, x)
		return
	case *trainer.Opt[int]:
		optional(t, x)
		return
	case *trainer.Opt[float64]:
		optional(t, x)
		return
	case *trainer.Opt[trainer.Float]:
		optional(t, x)
		return
	case *trainer.Opt[bool]:
		optional(t, x)
		return
	case *trainer.Opt[time.Duration]:
		optional(t, x)
		return
	case *probe.Value[int64]:
		value(t, x)
		return
	case *probe.Value[int]:
		value(t, x)
		return
	case *probe.Value[string]:
		value(t, x)
		return
	case *trainer.Config:
		*x = trainer.DefaultConfig()
		fill(t, reflect.ValueOf(&x.Model.Path).Elem(), depth)
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(texts.Draw(t, "text"))
	case reflect.Bool:
		v.SetBool(rapid.Bool().Draw(t, "bool"))
	case reflect.Int, reflect.Int32, reflect.Int64:
		n := rapid.OneOf(rapid.Int64Range(-2, 3000), rapid.Int64()).Draw(t, "int")
		if v.OverflowInt(n) {
			n = -1
		}
		v.SetInt(n)
	case reflect.Uint64, reflect.Uint32:
		v.SetUint(uint64(rapid.Uint32().Draw(t, "uint")))
	case reflect.Float64:
		v.SetFloat(floats.Draw(t, "float"))
	case reflect.Pointer:
		if depth < 6 && rapid.Bool().Draw(t, "present") {
			v.Set(reflect.New(v.Type().Elem()))
			fill(t, v.Elem(), depth+1)
		}
	case reflect.Slice:
		n := rapid.IntRange(0, 2).Draw(t, "length")
		v.Set(reflect.MakeSlice(v.Type(), n, n))
		for i := range n {
			fill(t, v.Index(i), depth+1)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				fill(t, v.Field(i), depth+1)
			}
		}
	case reflect.Map: // none is looked through but for a few names
	}
}

func optional[T any](t *rapid.T, o *trainer.Opt[T]) {
	if rapid.Bool().Draw(t, "known") {
		var x T
		fill(t, reflect.ValueOf(&x).Elem(), 0)
		*o = trainer.Some(x)
	}
}

func value[T any](t *rapid.T, o *probe.Value[T]) {
	if rapid.Bool().Draw(t, "known") {
		var x T
		fill(t, reflect.ValueOf(&x).Elem(), 0)
		*o = probe.Known(x, "somewhere")
	}
}
