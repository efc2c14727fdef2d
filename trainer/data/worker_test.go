package data_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mlxdyno/mlxdyno/trainer"
	"github.com/mlxdyno/mlxdyno/trainer/data"
)

func TestPermutationsAreThoseOfNumpy(t *testing.T) {
	t.Parallel()
	type request struct {
		Seed    uint32 `json:"seed"`
		Lengths []int  `json:"lengths"`
	}
	rng := rand.New(rand.NewPCG(3, 4))
	var cases []request
	for _, seed := range []uint32{0, 1, 42, 1 << 31, 1<<32 - 1, rng.Uint32()} {
		cases = append(cases, request{seed, []int{0, 1, 2, 3, 624, 0, 1023, 1024, 1025, rng.IntN(1000), 10_000 + rng.IntN(50_000), 7}})
	}
	type answer struct {
		permutation []int
		state       data.GeneratorState
	}
	var raw [][][2]json.RawMessage
	reference(t, &raw, "permutations", cases)
	for i, c := range cases {
		whole := data.NewGenerator(c.Seed)
		for j, n := range c.Lengths {
			var want answer
			if err := json.Unmarshal(raw[i][j][0], &want.permutation); err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal(raw[i][j][1], &want.state); err != nil {
				t.Fatal(err)
			}
			if got := whole.Permutation(n); !slices.Equal(got, want.permutation) || whole.State() != want.state {
				t.Fatalf("seed %d: permutation %d, of %d, is another; states alike: %t", c.Seed, j, n, whole.State() == want.state)
			}
			if j%2 == 0 { // another one goes on from numpy's own state
				whole = data.NewGenerator(c.Seed + 1)
				whole.SetState(want.state)
			}
			if text, err := json.Marshal(whole.State()); err != nil || !bytes.Equal(text, raw[i][j][1]) {
				t.Fatalf("seed %d: state after %d in JSON: %.20s, want %.20s (%v)", c.Seed, j, text, raw[i][j][1], err)
			}
		}
	}
}

// workerBatch is a batch as our worker for mlx-lm hands it to train().
type workerBatch struct {
	Shape    [2]int         `json:"shape"`
	Tokens   []int32        `json:"tokens"`
	Spans    []int32        `json:"spans"`
	New      bool           `json:"new"`
	Position *data.Position `json:"position"` // afterwards
}

func TestBatchesAreThoseOfTheWorker(t *testing.T) {
	t.Parallel()
	const vocabulary = 50
	type request struct {
		Tokens     string          `json:"tokens"`
		Batch      int             `json:"batch"`
		Cap        int             `json:"cap"`
		Grouped    bool            `json:"grouped"`
		Seed       uint32          `json:"seed"`
		Steps      int             `json:"steps"`
		At         data.Position   `json:"at"`
		Shapes     []trainer.Shape `json:"shapes"`
		ValBatch   int             `json:"val_batch"`
		ValBatches int             `json:"val_batches"`
		Vocabulary int             `json:"vocabulary"`
	}
	rng := rand.New(rand.NewPCG(5, 6))
	dir := t.TempDir()
	var cases []request
	var opened []*data.Rows
	for i := range 30 {
		c := request{
			Tokens: filepath.Join(dir, fmt.Sprintf("%d.tokens", i)), Batch: 1 + rng.IntN(4), Cap: 2 + rng.IntN(90), Grouped: i%2 == 0,
			Seed: rng.Uint32(), ValBatches: rng.IntN(9) - 1, Vocabulary: vocabulary,
			Shapes: []trainer.Shape{{Batch: 1 + rng.IntN(4), Width: 1 + rng.IntN(150), Steps: rng.IntN(4)}, {Batch: 3, Width: 20, Steps: 2}},
		}
		rows := make([][]int32, c.Batch+rng.IntN(20))
		c.ValBatch = 1 + rng.IntN(len(rows)+4) // sometimes more than there are
		prompts := make([]int32, len(rows))
		for r := range rows {
			rows[r] = make([]int32, rng.IntN(100))
			for k := range rows[r] {
				rows[r][k] = rng.Int32N(vocabulary)
			}
			prompts[r] = rng.Int32N(9)
		}
		data.WriteTokens(t, c.Tokens, rows, prompts, data.Metadata)
		r, err := data.OpenRows(c.Tokens)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		opened = append(opened, r)

		// The worker also goes on from a position that Go tells.
		elsewhere, err := data.NewEpochs(r.Lengths(), data.Batching{Batch: c.Batch, MaxSeqLength: c.Cap, Grouped: c.Grouped}, data.NewGenerator(rng.Uint32()))
		if err != nil {
			t.Fatal(err)
		}
		for range rng.IntN(2*len(rows)/c.Batch + 1) {
			elsewhere.Next()
		}
		c.At, c.Steps = elsewhere.Position(), 2*len(rows)/c.Batch+1
		cases = append(cases, c)
	}
	var answers []struct {
		Checksum   uint32        `json:"checksum"`
		Epochs     []workerBatch `json:"epochs"`
		Resumed    []workerBatch `json:"resumed"`
		Exact      []workerBatch `json:"exact"`
		Validation []workerBatch `json:"validation"`
	}
	reference(t, &answers, "worker", cases)
	for i, c := range cases {
		rows, want := opened[i], answers[i]
		if rows.Checksum() != want.Checksum {
			t.Errorf("case %d: checksum %x, the worker read %x", i, rows.Checksum(), want.Checksum)
		}
		fill := func(b data.Batch) workerBatch {
			tokens, spans := rows.Fill(b, c.Cap)
			return workerBatch{Shape: [2]int{b.Shape.Batch, b.Shape.Width}, Tokens: tokens, Spans: spans}
		}
		epochs, err := data.NewEpochs(rows.Lengths(), data.Batching{Batch: c.Batch, MaxSeqLength: c.Cap, Grouped: c.Grouped}, data.NewGenerator(c.Seed))
		if err != nil {
			t.Fatal(err)
		}
		take := func() (out []workerBatch) {
			for range c.Steps {
				b := fill(epochs.Next())
				p := epochs.Position()
				b.Position = &p
				out = append(out, b)
			}
			return out
		}
		compareBatches(t, i, "epochs", want.Epochs, take())
		if err := epochs.GoTo(c.At); err != nil {
			t.Fatal(err)
		}
		compareBatches(t, i, "resumed", want.Resumed, take())

		var exact, validation []workerBatch
		for b := range data.Exact(rows, c.Shapes, false) {
			exact = append(exact, workerBatch{Shape: [2]int{b.Shape.Batch, b.Shape.Width}, Tokens: b.Tokens, Spans: b.Spans, New: b.New})
		}
		compareBatches(t, i, "exact", want.Exact, exact)
		for _, b := range data.Validation(rows.Lengths(), data.Batching{Batch: c.ValBatch, MaxSeqLength: c.Cap, Grouped: c.Grouped}, c.ValBatches, c.Seed) {
			validation = append(validation, fill(b))
		}
		compareBatches(t, i, "validation", want.Validation, validation)
	}
}

func compareBatches(t *testing.T, c int, what string, want, got []workerBatch) {
	t.Helper()
	states := cmp.Comparer(func(a, b data.GeneratorState) bool { return a == b })
	if len(want) != len(got) {
		t.Fatalf("case %d, %s: %d batches, the worker has %d", c, what, len(got), len(want))
	}
	for i := range want {
		if d := cmp.Diff(want[i], got[i], states); d != "" {
			t.Fatalf("case %d, %s, batch %d (-worker +ours):\n%s", c, what, i, d)
		}
	}
}
