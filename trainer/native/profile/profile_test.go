package profile

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/mlxdyno/mlxdyno/mlxbind"
	"github.com/mlxdyno/mlxdyno/trainer"
)

// drawn is a graph drawn by hand, with the kernels that MLX has on a GPU.
type drawn struct {
	g     mlxbind.Graph
	names Names
	at    map[string]int
}

func (d *drawn) node(name, op string, shape []int, inputs ...string) {
	n := mlxbind.Node{Op: op, DType: mlxbind.BFloat16, Shape: shape, First: len(d.g.Nodes)}
	for _, in := range inputs {
		n.Inputs = append(n.Inputs, d.at[in])
	}
	d.at[name] = n.First
	d.g.Nodes = append(d.g.Nodes, n)
}

func (d *drawn) input(name, layer string, shape ...int) {
	d.node(name, "", shape)
	d.g.In = append(d.g.In, d.at[name])
	d.names.Inputs = append(d.names.Inputs, layer)
}

// attention is the first half of a block and its gradient: 2 rows of 8
// positions, 16 wide, 4 heads and 2 of keys, an adapter of rank 2 on the queries.
func attention() *drawn {
	d := &drawn{at: map[string]int{}}
	flat, heads, kv := []int{16, 16}, []int{2, 4, 8, 4}, []int{2, 2, 8, 4}
	d.input("h", "", flat...)
	d.input("norm", "input_layernorm", 16)
	d.input("wq", "self_attn.q_proj", 16, 16)
	d.input("a", "self_attn.q_proj", 16, 2)
	d.input("b", "self_attn.q_proj", 2, 16)
	d.input("wk", "self_attn.k_proj", 8, 16)
	d.input("wv", "self_attn.v_proj", 8, 16)
	d.input("wo", "self_attn.o_proj", 16, 16)
	d.node("hat", "", flat)
	d.g.Cotangents = []int{d.at["hat"]}

	d.node("scale", "", nil)
	d.node("x", "RMSNorm", flat, "h", "norm")
	d.node("wqt", "Transpose", flat, "wq")
	d.node("q0", "Matmul", flat, "x", "wqt")
	d.node("z", "Matmul", []int{16, 2}, "x", "a")
	d.node("zs", "Multiply", []int{16, 2}, "z", "scale")
	d.node("q", "AddMM", flat, "zs", "b", "q0")
	d.node("qh", "Reshape", heads, "q")
	d.node("qr", "RoPE", heads, "qh")
	d.node("k", "QuantizedMatmul", []int{16, 8}, "x", "wk")
	d.node("kr", "RoPE", kv, "k")
	d.node("v", "Matmul", []int{16, 8}, "x", "wv")
	d.node("vh", "Reshape", kv, "v")
	d.node("o", "ScaledDotProductAttention", heads, "qr", "kr", "vh")
	d.node("of", "Transpose", flat, "o")
	d.node("y", "Matmul", flat, "of", "wo")
	d.node("out", "Add", flat, "h", "y")
	d.g.Out = []int{d.at["out"]}

	d.node("do", "Matmul", flat, "hat", "wo")
	d.node("dq", "ScaledDotProductAttentionVJP", heads, "qr", "kr", "vh", "o", "do")
	d.node("dr", "RoPE", heads, "dq")
	d.node("dqs", "Multiply", flat, "dr", "scale")
	d.node("dz", "Matmul", []int{16, 2}, "dqs", "b")
	d.node("da", "Matmul", []int{16, 2}, "x", "dz")
	d.node("db16", "Matmul", []int{2, 16}, "zs", "dr")
	d.node("db", "AsType", []int{2, 16}, "db16")
	d.node("dx0", "Matmul", flat, "dr", "wq")
	d.node("dx1", "Matmul", flat, "dz", "a")
	d.node("dx", "Add", flat, "dx0", "dx1")
	d.node("dn", "RMSNormVJP", flat, "h", "norm", "dx")
	d.node("dh", "Add", flat, "dn", "hat")
	d.g.Gradients = []int{d.at["dh"], d.at["da"], d.at["db"]}
	d.names.Gradients = []string{"", "self_attn.q_proj", "self_attn.q_proj"}
	return d
}

func TestLayersOfKernels(t *testing.T) {
	d := attention()
	got := Layers(&d.g, d.names)
	for layer, nodes := range map[string]string{
		"input_layernorm":  "x dn",
		"self_attn.q_proj": "q0 z zs q dz da db db16 dx0 dx1 dx dqs",
		"self_attn.k_proj": "k",
		"self_attn.v_proj": "v",
		"self_attn.o_proj": "y do",
		"self_attn":        "qr kr o dq dr",
		"":                 "out dh",
	} {
		for name := range strings.FieldsSeq(nodes) {
			if l := got[d.at[name]]; l != layer {
				t.Errorf("%s is of %q instead of %q", name, l, layer)
			}
		}
	}
}

func TestFLOP(t *testing.T) {
	d := attention()
	for name, want := range map[string]float64{
		"q0": 2 * 16 * 16 * 16,
		"z":  2 * 16 * 16 * 2,
		"q":  2 * 16 * 2 * 16,
		"k":  2 * 16 * 16 * 8,
		"o":  2 * 2 * (2 * 4 * 8 * 8 * 4), // scores and sums
		"dq": 5 * 2 * (2 * 4 * 8 * 8 * 4), // and twice each, and scores again
	} {
		if got, ok := FLOP(&d.g, d.at[name]); !ok || got != want {
			t.Errorf("%s: %v instead of %v", name, got, want)
		}
	}
	for _, name := range []string{"x", "out", "qh", "h"} {
		if got, ok := FLOP(&d.g, d.at[name]); ok {
			t.Errorf("%s counts %v", name, got)
		}
	}
}

// However operations are shared out, they add up to their piece; measured ones
// are shared by that, others by what they cost.
func TestShares(t *testing.T) {
	rates := Rates{FLOPS: 1e9, BytesASecond: 1e9}
	ops := func(measured bool) *Operations {
		return &Operations{measured: measured, All: []Operation{
			{Op: "Matmul", FLOP: 6e6, Moved: 1000, seconds: 1}, {Op: "Add", Moved: 2e6, seconds: 3}}}
	}
	for name, c := range map[string]struct {
		ops  *Operations
		want []float64
	}{
		"by what they took": {ops(true), []float64{0.25, 0.75}},
		"by what they cost": {ops(false), []float64{0.75, 0.25}},
		"too fast to tell":  {&Operations{measured: true, All: []Operation{{FLOP: 1}, {FLOP: 3}}}, []float64{0.25, 0.75}},
		"of nothing":        {&Operations{}, nil},
		"of none":           {nil, nil},
	} {
		if got := c.ops.shares(rates); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v instead of %v", name, got, c.want)
		}
	}
	if got := ops(false).shares(Rates{}); got != nil {
		t.Errorf("with rates that nobody knows: %v", got)
	}
	if spans := (&Recorder{laps: []lap{{Place{Forward, Embedding}, 1, &Operations{All: []Operation{{Op: "Gather", Moved: 1}}}}}}).Spans(rates); len(spans) != 1 || spans[0].Modelled {
		t.Errorf("one operation alone has all of its piece: %+v", spans)
	}
	r := &Recorder{laps: []lap{
		{Place{Data}, 1, nil}, {Place{Forward, "block 0"}, 2, ops(true)}, {Place{Forward, "block 0"}, 2, ops(false)},
		{Place{Optimizer}, 3, nil}, {Place{Optimizer, "", "", "bookkeeping"}, 4, nil},
	}}
	spans := r.Spans(rates)
	if len(spans) != 5 {
		t.Fatalf("%+v", spans)
	}
	if s := spans[1]; s.Seconds != 2 || s.Calls != 0 || !s.Modelled || strings.Join(s.Path, "/") != "forward/block 0//Matmul" {
		t.Errorf("%+v", s)
	}
	if s := r.Summary(rates, spans, 0); s.Seconds != 12 || s.CeilingGFLOPS.Or(0) != 1 {
		t.Errorf("%+v", s)
	}
	if s := r.Summary(Rates{}, nil, 0); s.CeilingGFLOPS.Known() {
		t.Errorf("a ceiling that was not measured: %+v", s)
	}
}

// What is held adds up to the peak, whatever pieces leave behind, and is never
// less than nothing.
func TestHeldAddsUp(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		base := []trainer.Held{{Path: []string{"weights"}, Bytes: random.Int64N(1000)}, {Path: []string{"adapters"}, Bytes: random.Int64N(50)}}
		b := book{base: base, based: base[0].Bytes + base[1].Bytes}
		active := b.based + random.Int64N(100) - 20
		b.begin()
		places := []Place{{Forward, Embedding}, {Forward, "block 0"}, {Forward, "block 1"}, {Loss, Head}, {Loss, Head}, {Backward, "block 1"}, {Backward, "block 0"}, {Optimizer}}
		for _, p := range places {
			peak := max(active, 0) + random.Int64N(500)
			held := b.at(p, peak, active)
			var sum int64
			for _, h := range held {
				sum += h.Bytes
				if h.Bytes < 0 {
					t.Fatalf("%+v", h)
				}
			}
			if sum != peak {
				t.Fatalf("%v: %d of %d bytes: %+v", p, sum, peak, held)
			}
			ops := &Operations{Kept: []Share{{"mlp.up_proj", random.Int64N(200)}, {"", random.Int64N(50)}}}
			growth := random.Int64N(400) - 150
			b.turn(p, growth, random.Int64N(30), ops)
			active = max(0, active+growth)
		}
	}
}

// A block's activations stay until its backward pass, those of the embedding
// until the first.
func TestActivations(t *testing.T) {
	b := book{}
	b.begin()
	b.turn(Place{Forward, Embedding}, 10, 0, nil)
	b.turn(Place{Forward, "block 0"}, 100, 0, &Operations{Kept: []Share{{"mlp", 60}}})
	b.turn(Place{Forward, "block 1"}, 200, 0, &Operations{Kept: []Share{{"mlp", 300}}})
	sums := func() map[string]int64 {
		out := map[string]int64{}
		for _, h := range b.at(Place{Optimizer}, 1000, 1000) {
			out[strings.Join(h.Path, "/")] += h.Bytes
		}
		return out
	}
	got := sums()
	for path, bytes := range map[string]int64{"activations/embedding": 10, "activations/block 0/mlp": 60, "activations/block 0": 40, "activations/block 1/mlp": 200} {
		if got[path] != bytes {
			t.Errorf("%s: %d instead of %d", path, got[path], bytes)
		}
	}
	b.turn(Place{Backward, "block 1"}, -180, 20, nil)
	got = sums()
	if got["activations/embedding"] != 0 || got["activations/block 1/mlp"] != 0 || got["activations/block 0"] != 40 || got["gradients"] != 20 {
		t.Errorf("after the backward pass of block 1: %v", got)
	}
}
