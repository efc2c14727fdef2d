package demo

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// fake is a program that stands for Python: asked for versions it prints
// $VERSION, else it counts its calls in $CALLS and does what body says in the
// directory that it was told, which is $dir.
func fake(t *testing.T, body string) Options {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "python")
	script := `#!/bin/sh
if [ "$1" = -c ]; then echo "python ${VERSION:-1}"; exit 0; fi
echo called >> "$CALLS"
dir=$(sed 's/.*"directory":"\([^"]*\)".*/\1/')
` + body
	if err := os.WriteFile(bin, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	calls := filepath.Join(t.TempDir(), "calls")
	return Options{Python: bin, Dir: t.TempDir(), Size: Small, Environ: append(os.Environ(), "CALLS="+calls)}
}

func (o Options) calls(t *testing.T) int {
	t.Helper()
	path := strings.TrimPrefix(o.Environ[len(o.Environ)-1], "CALLS=")
	b, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return strings.Count(string(b), "called")
}

const good = `mkdir -p "$dir/model"; echo made > "$dir/model/config.json"
echo 'a line from a library'
echo '{"stage":"training","detail":"step 1 of 1"}'
echo '{"result":{"question":"why?","base":{"loss":4,"unigram_loss":5.5}}}'
`

func TestMakeReusesWhatIsFinished(t *testing.T) {
	o := fake(t, good)
	var said []string
	o.Progress = func(stage, detail string) { said = append(said, stage+": "+detail) }
	first, err := Make(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if first.Question != "why?" || first.Base.Margin() != 1.5 || !first.Base.Strong() {
		t.Errorf("result is not what python said: %+v", first)
	}
	if d := cmp.Diff([]string{"training: step 1 of 1"}, said); d != "" {
		t.Error(d)
	}
	second, err := Make(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(first, second); d != "" {
		t.Errorf("a reused demo differs: %s", d)
	}
	if n := o.calls(t); n != 1 {
		t.Errorf("made %d times, want once", n)
	}
}

func TestMakeAnewWhenSomethingChanged(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*Options)
	}{
		{"seed", func(o *Options) { o.Seed = 7 }},
		{"python", func(o *Options) { o.Environ = append([]string{"VERSION=2"}, o.Environ...) }},
		{"torn stamp", func(o *Options) {
			if err := os.WriteFile(filepath.Join(o.Dir, "small", stampName), []byte("{"), 0o644); err != nil {
				panic(err)
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := fake(t, good)
			if _, err := Make(t.Context(), o); err != nil {
				t.Fatal(err)
			}
			old := filepath.Join(o.Dir, "small", "left-over")
			if err := os.WriteFile(old, nil, 0o644); err != nil {
				t.Fatal(err)
			}
			c.change(&o)
			if _, err := Make(t.Context(), o); err != nil {
				t.Fatal(err)
			}
			if n := o.calls(t); n != 2 {
				t.Errorf("made %d times, want twice", n)
			}
			if _, err := os.Stat(old); err == nil {
				t.Error("files of the earlier demo are still there")
			}
		})
	}
}

func TestMakeOnceForManyCallers(t *testing.T) {
	o := fake(t, "sleep 0.2\n"+good)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if _, err := Make(t.Context(), o); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := o.calls(t); n != 1 {
		t.Errorf("made %d times, want once", n)
	}
}

func TestMakeFails(t *testing.T) {
	for _, c := range []struct{ name, body, want string }{
		{"python fails", `echo '{"stage":"text","detail":"x"}'; echo Traceback >&2; echo "ValueError: no" >&2; exit 1`, `make demo: python failed after "text": ValueError: no`},
		{"no result", `exit 0`, "make demo: python failed at the start: it ended without a result"},
		{"a result and a failure", good + "exit 3", "exit status 3"},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := fake(t, c.body)
			_, err := Make(t.Context(), o)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("error %v, want %q in it", err, c.want)
			}
			entries, _ := os.ReadDir(o.Dir)
			for _, e := range entries {
				if !strings.HasSuffix(e.Name(), ".lock") {
					t.Errorf("%s was left behind", e.Name())
				}
			}
		})
	}
}

func TestMakeKeepsForeignFiles(t *testing.T) {
	o := fake(t, good)
	theirs := filepath.Join(o.Dir, "small", "thesis.txt")
	if err := os.MkdirAll(filepath.Dir(theirs), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(theirs, []byte("mine"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Make(t.Context(), o); err == nil || !strings.Contains(err.Error(), "was not made by this command") {
		t.Errorf("error %v, want a refusal", err)
	}
	if _, err := os.Stat(theirs); err != nil {
		t.Error(err)
	}
}

func TestMakeStopsWithItsContext(t *testing.T) {
	o := fake(t, "exec sleep 60")
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		for o.calls(t) == 0 {
			time.Sleep(5 * time.Millisecond)
		}
		cancel()
	}()
	if _, err := Make(ctx, o); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want %v", err, context.Canceled)
	}
}

func TestMakeNeedsPython(t *testing.T) {
	_, err := Make(t.Context(), Options{Python: filepath.Join(t.TempDir(), "none"), Dir: t.TempDir()})
	var p *PythonError
	if !errors.As(err, &p) || !strings.Contains(err.Error(), "ask ") {
		t.Errorf("error %v, want a PythonError that names the interpreter", err)
	}
	if _, err := Make(t.Context(), Options{Size: "huge"}); err == nil {
		t.Error("an unknown size is accepted")
	}
}

func TestShapeRefuses(t *testing.T) {
	for _, c := range []struct {
		name, want string
		shape      Shape
	}{
		{"unknown architecture", "architecture", Shape{Arch: "bert"}},
		{"tiny vocabulary", "vocabulary 100", Shape{Vocab: 100}},
		{"uneven heads", "evenly", Shape{Heads: 3, KVHeads: 2, HeadDim: 16}},
		{"odd head dimension", "not even", Shape{Hidden: 66, Heads: 6}},
		{"phi3 with its own head dimension", "phi3 needs", Shape{Arch: "phi3", HeadDim: 16, Heads: 2}},
		{"7 bits", "7 bits", Shape{Bits: 7}},
		{"group of 48", "group size 48", Shape{GroupSize: 48}},
		{"float64", "dtype", Shape{DType: "float64"}},
		{"negative layers", "positive", Shape{Layers: -1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := MakeModel(t.Context(), Options{}, c.shape)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want %q in it", err, c.want)
			}
		})
	}
}

func TestShapesHaveNamesOfTheirOwn(t *testing.T) {
	seen := map[string]bool{}
	for _, s := range []Shape{{}, {Tied: true}, {Bits: 4}, {Bits: 8}, {Bits: 4, GroupSize: 32}, {Arch: "phi3"}, {Hidden: 128},
		{DType: "bfloat16"}, {Layers: 3}, {Intermediate: 99}, {Vocab: 700}, {KVHeads: 1}, {HeadDim: 16}, {Positions: 64}} {
		for seed := range uint64(2) {
			n := s.withDefaults().name(seed)
			if seen[n] {
				t.Errorf("two shapes are called %s", n)
			}
			seen[n] = true
		}
	}
}

// FuzzFollow reads anything that a program may print.
func FuzzFollow(f *testing.F) {
	f.Add(`{"stage":"a","detail":"b"}` + "\n" + `{"result":{"base":{"loss":1}}}`)
	f.Add("noise\n{}\n{\"result\":null}\n[1]\n")
	f.Add(`{"result":{"base":{"loss":"1"}}}`)
	f.Fuzz(func(t *testing.T, text string) {
		said := 0
		o := Options{Progress: func(stage, _ string) {
			if said++; stage == "" {
				t.Error("progress without a stage")
			}
		}}
		r := strings.NewReader(text)
		if _, stage := o.follow(r); (stage == "") != (said == 0) {
			t.Errorf("%d stages were reported, the last is %q", said, stage)
		}
		if r.Len() > 0 {
			t.Errorf("%d bytes were not read: the writer would block", r.Len())
		}
	})
}
