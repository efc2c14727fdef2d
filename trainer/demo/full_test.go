//go:build long

package demo

import "testing"

// TestFullIsALanguageModel takes two minutes: go test -tags long.
func TestFullIsALanguageModel(t *testing.T) {
	o := environment(t, t.TempDir())
	o.Size = Full
	o.Progress = func(stage, detail string) { t.Log(stage, detail) }
	p, err := Make(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%+v", p.Base)
	if !p.Base.Strong() {
		t.Errorf("loss %.3f on unseen text, %.3f without context: the margin is %.3f, want %.1f", p.Base.Loss, p.Base.UnigramLoss, p.Base.Margin(), RequiredMargin)
	}
}
