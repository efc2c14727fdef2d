package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mlxdyno/mlxdyno/probe"
	"github.com/mlxdyno/mlxdyno/probe/diagnose"
	"github.com/mlxdyno/mlxdyno/report"
)

var update = flag.Bool("update", false, "write golden files anew")

// seed is the command line that diagnoses the training with which the project
// began.
func seed(more ...string) []string {
	in := func(name string) string { return filepath.Join("testdata", "seed", name) }
	return append([]string{"doctor", "--log", in("train.log"), "--log", in("metrics.jsonl"), "--log", in("debug.jsonl"), "--snapshot", in("machine.json"),
		"--lockfile", in("Cargo.lock"), "--patient-help", in("help.txt"),
		"--command-line", "your_ai train --model Meta-Llama-3-8B --batch-size 1 --lora-rank 64 --max-steps 5000",
		"--proposed", "--max-memory 70.0 --batch-size 1 --lora-rank 64 --reload-interval 40 --quantize 4 --max-steps 5000",
		"--claim", "8 steps/s", "--claim", "40-60 steps/s"}, more...)
}

// TestSeedCase is the acceptance of the whole diagnosis: what really was wrong
// with that training, found from what was recorded of it.
func TestSeedCase(t *testing.T) {
	var text bytes.Buffer
	if status := (&app{stdout: &text, stderr: &bytes.Buffer{}, color: "never"}).execute(t.Context(), seed()); status != statusSubject {
		t.Errorf("exit status %d, want %d", status, statusSubject)
	}
	golden := filepath.Join("testdata", "seed", "report.golden")
	if *update {
		if err := os.WriteFile(golden, text.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), text.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}

	var document bytes.Buffer
	(&app{stdout: &document, stderr: &bytes.Buffer{}, color: "never"}).execute(t.Context(), seed("--json"))
	if err := report.Validate("doctor", document.Bytes()); err != nil {
		t.Fatal(err)
	}
	var r diagnose.Report
	if err := json.Unmarshal(document.Bytes(), &r); err != nil {
		t.Fatal(err)
	}
	if first := r.Findings[0].Code; first != "patient.binding-leak" {
		t.Errorf("%s comes first, want the leak of the binding", first)
	}
	for code, says := range map[string][]string{
		"patient.binding-leak":        {"0.25.1", "2004.0 MiB", "lm_head alone", "fits if its units are binary", "208.0 MiB", "30633.0 MiB", "does not fit", "every 27 steps"},
		"patient.page-size":           {"pages of 4096 bytes", "quarter", "7.73 GB comes from that"},
		"patient.limit-below-weights": {"16.1 GB", "--max-memory"},
		"patient.speed-unit":          {"7.66 s a step", "8 steps/s is seconds a step"},
		"patient.impossible-speed":    {"40-60 steps/s", "at best 2 steps/s"},
		"patient.lora-not-wired":      {"54525952"},
		"patient.weights-not-loaded":  {"ln(128256)"},
		"patient.float32-weights":     {"four bytes"},
		"patient.unknown-flag":        {"--quantize"},
		"patient.rss-blind":           {"138"},
	} {
		i := slices.IndexFunc(r.Findings, func(f probe.Finding) bool { return f.Code == code })
		if i < 0 {
			t.Errorf("%s is not found", code)
			continue
		}
		f, _ := json.Marshal(r.Findings[i])
		for _, s := range says {
			if !strings.Contains(string(f), s) {
				t.Errorf("%s does not say %q: %s", code, s, f)
			}
		}
		if r.Findings[i].Confidence != probe.Likely && code != "patient.unknown-flag" {
			t.Errorf("%s is %s, from logs alone", code, r.Findings[i].Confidence)
		}
	}
	for _, f := range r.Findings {
		for _, fix := range f.Fix {
			if strings.Contains(fix.Command+strings.ReplaceAll(fix.Text, "Leave out", ""), "--quantize") && f.Code != "patient.unknown-flag" {
				t.Errorf("%s recommends --quantize: %+v", f.Code, fix)
			}
		}
	}
	if strings.Contains(r.Next, "--quantize") {
		t.Errorf("next: %s", r.Next)
	}
}
