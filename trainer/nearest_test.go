package trainer

import (
	"strings"
	"testing"
)

func TestNearestKnob(t *testing.T) {
	for name, want := range map[string]string{
		"bacth-size": "batch-size", "batch_size": "batch-size", "batchsize": "batch-size", "rnk": "rank", "Rank": "rank", "max_seq_len": "max-seq-length",
		"lora_parameters.scael": "scale", "grad_checkpoints": "grad-checkpoint", "quantise": "quantize",
		"": "", "x": "", "temperature": "", "verbose": "",
	} {
		k, ok := nearestKnob(name)
		if k.Name != want || ok != (want != "") {
			t.Errorf("%q: %q, %v instead of %q", name, k.Name, ok, want)
		}
	}
	s := NewSettings()
	if err := s.Set("bacth-size", "4", FromFlag); err == nil || !strings.Contains(err.Error(), "did you mean batch-size?") {
		t.Errorf("said %v", err)
	}
	if err := s.Set("temperature", "4", FromFlag); err == nil || !strings.Contains(err.Error(), "--help") {
		t.Errorf("said %v", err)
	}
}

func FuzzEdits(f *testing.F) {
	f.Add("batch-size", "bacth-size", "rank")
	f.Add("", "a", "ba")
	f.Fuzz(func(t *testing.T, a, b, c string) {
		ab, ba, aa := edits(a, b), edits(b, a), edits(a, a)
		if ab != ba || aa != 0 || (ab == 0) != (a == b) || ab > max(len(a), len(b)) || ab < max(len(a)-len(b), len(b)-len(a)) {
			t.Errorf("%q and %q: %d, %d, %d", a, b, ab, ba, aa)
		}
		if d := edits(a+c, b+c); d > ab {
			t.Errorf("%q and %q are %d apart, with %q behind %d", a, b, ab, c, d)
		}
	})
}
