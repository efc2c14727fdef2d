package decoder

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/mlxdyno/mlxdyno/mlxbind"
)

// generated is what a model in dir says.
func generated(t *testing.T, dir string, prompt []int32, n int, o Sampling, stop ...int32) (out []int32) {
	t.Helper()
	f, spec := facts(t, dir)
	do(t, func(s *mlxbind.Scope) error {
		m, err := Load(s, f, spec, Quantize{})
		if err != nil {
			return err
		}
		out, err = m.Generate(s, prompt, nil, n, o, stop...)
		return err
	})
	return out
}

// generatedByMLXLM is what mlx-lm says, greedily.
func generatedByMLXLM(t *testing.T, dir string, prompt []int32, n int) (out []int32) {
	t.Helper()
	for _, token := range python.ask(t, job{"do": "generate", "dir": dir, "tokens": prompt, "n": n})["tokens"].([]any) {
		out = append(out, int32(token.(float64)))
	}
	return out
}

// TestGenerateAsMLXLM: windows are of 16 tokens, so that prompts and answers
// leave them. There mlx-lm forgets keys in a ring, and this program hides them
// behind a mask.
func TestGenerateAsMLXLM(t *testing.T) {
	for name := range modelConfigs {
		for _, form := range []struct{ length, bits int }{{1, 0}, {12, 0}, {37, 0}, {5, 4}} {
			t.Run(fmt.Sprintf("%s/%d tokens/%d", name, form.length, form.bits), func(t *testing.T) {
				// A tied head repeats the last token for ever.
				dir := makeModel(t, with(modelConfigs[name], job{"tie_word_embeddings": false}), "float32", job{"bits": form.bits, "group": 32})
				prompt := someTokens[1][:form.length]
				want := generatedByMLXLM(t, dir, prompt, 48)
				if diff := cmp.Diff(want, generated(t, dir, prompt, 48, Sampling{})); diff != "" || len(want) != 48 {
					t.Errorf("tokens differ: %s", diff)
				}
				slices.Sort(want)
				t.Logf("%d different tokens", len(slices.Compact(want)))
			})
		}
	}
}

// TestStepsEqualOnePass: logits token by token, from what is remembered, are
// those of the whole text at once.
func TestStepsEqualOnePass(t *testing.T) {
	for name := range modelConfigs {
		t.Run(name, func(t *testing.T) {
			f, spec := facts(t, makeModel(t, modelConfigs[name], "float32", nil))
			do(t, func(s *mlxbind.Scope) error {
				m, err := Load(s, f, spec, Quantize{})
				if err != nil {
					return err
				}
				text := someTokens[0]
				want, err := s.ReadFloat32s(m.Logits(s, s.Int32s(text, 1, len(text)), nil, Pass{}))
				if err != nil {
					return err
				}
				cache := &keyValues{keys: make([]mlxbind.Array, spec.Layers), values: make([]mlxbind.Array, spec.Layers)}
				var got []float32
				for at := 0; at < len(text); {
					n := min([]int{5, 1, 20, 1}[at%4], len(text)-at) // several at once too
					v, err := s.ReadFloat32s(m.Logits(s, s.Int32s(text[at:at+n], 1, n), nil, Pass{cache: cache}))
					if err != nil {
						return err
					}
					got, cache.positions, at = append(got, v...), cache.positions+n, at+n
				}
				if d := relative(t, got, want); d > 5e-6 {
					t.Errorf("logits differ by %.3g", d)
				}
				return nil
			})
		})
	}
}

func TestSampling(t *testing.T) {
	dir := makeModel(t, modelConfigs["llama2"], "float32", nil)
	prompt := someTokens[0][:4]
	greedy := generated(t, dir, prompt, 60, Sampling{})
	hot := generated(t, dir, prompt, 60, Sampling{Temperature: 1.5, Seed: 3})
	if diff := cmp.Diff(hot, generated(t, dir, prompt, 60, Sampling{Temperature: 1.5, Seed: 3})); diff != "" {
		t.Errorf("one seed gives two texts: %s", diff)
	}
	if cmp.Equal(hot, generated(t, dir, prompt, 60, Sampling{Temperature: 1.5, Seed: 4})) || cmp.Equal(hot, greedy) {
		t.Error("sampling ignores its seed or its temperature")
	}
	if diff := cmp.Diff(greedy, generated(t, dir, prompt, 60, Sampling{Temperature: 1e-5, Seed: 3})); diff != "" {
		t.Errorf("without temperature it is not greedy: %s", diff)
	}
	last := slices.IndexFunc(greedy, func(token int32) bool { return token != greedy[0] })
	if diff := cmp.Diff(greedy[:last], generated(t, dir, prompt, 60, Sampling{}, -1, greedy[last])); diff != "" {
		t.Errorf("stopped: %s", diff)
	}
	if got := generated(t, dir, prompt, 60, Sampling{}, greedy[0]); len(got) != 0 {
		t.Errorf("it says %v though it shall stop there", got)
	}
	f, spec := facts(t, dir)
	do(t, func(s *mlxbind.Scope) error {
		m, err := Load(s, f, spec, Quantize{})
		if err != nil {
			return err
		}
		if _, err := m.Generate(s, nil, nil, 1, Sampling{}); err == nil {
			t.Error("an empty prompt is taken")
		}
		return nil
	})
}

// TestGenerateKeepsNothing: after 200 tokens there are as many arrays as before,
// in the Scope that goes on, and as many bytes.
func TestGenerateKeepsNothing(t *testing.T) {
	dir := makeModel(t, modelConfigs["gemma3"], "float32", nil)
	for name, o := range map[string]Sampling{"greedy": {}, "sampled": {Temperature: 1, Seed: 2}} {
		t.Run(name, func(t *testing.T) {
			f, spec := facts(t, dir)
			do(t, func(s *mlxbind.Scope) error {
				m, err := Load(s, f, spec, Quantize{})
				if err != nil {
					return err
				}
				live, bytes := rt.Live(), s.Memory().Active
				for _, n := range []int{3, 200} {
					if _, err := m.Generate(s, someTokens[0][:5], nil, n, o); err != nil {
						return err
					}
					if left := rt.Live() - live; left != 0 {
						t.Errorf("%d arrays are left of %d tokens", left, n)
					}
					if left := s.Memory().Active - bytes; left != 0 {
						t.Errorf("%d bytes are left of %d tokens", left, n)
					}
				}
				return nil
			})
		})
	}
}
