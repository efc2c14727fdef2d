package replay

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/mlxdyno/mlxdyno/tuner/search"
)

// trials numbers what a trial shows: answers to another one are worth nothing.
const trials = 1

// maxAsks ends a search that goes in circles.
const maxAsks = 250

// optuna is one of its samplers.
type optuna struct {
	Sampler  string // tpe or gp
	Startup  int    // trials at random before it models anything
	Filtered bool   // by a filter that knows what fits, at the price of tune's calibration
}

func (o optuna) String() string {
	s := fmt.Sprintf("Optuna %s, start-up %d", strings.ToUpper(o.Sampler), o.Startup)
	if o.Filtered {
		s += ", filtered"
	}
	return s
}

// answers are what Optuna asked for, kept so that a replay needs no Python.
// They hold for one table and one ground.
type answers struct {
	path   string
	python string // runs what is not kept; empty for none
	table  string // hash of the table
	kept   map[string][]int
	fresh  bool
}

type answer struct {
	Key  string `json:"key"`
	Asks []int  `json:"asks"` // of the table's points
}

func openAnswers(t testing.TB, path, table, python string) *answers {
	t.Helper()
	text, err := os.ReadFile(table)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(text)
	a := &answers{path: path, python: python, table: hex.EncodeToString(sum[:4]), kept: map[string][]int{}}
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return a
	}
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for d := json.NewDecoder(f); ; {
		var one answer
		if err := d.Decode(&one); errors.Is(err, io.EOF) {
			return a
		} else if err != nil {
			t.Fatal(err)
		}
		a.kept[one.Key] = one.Asks
	}
}

// save writes the answers of this table; those of others are worth nothing.
func (a *answers) save(t testing.TB) {
	t.Helper()
	if !a.fresh {
		return
	}
	var b strings.Builder
	keys := []string{}
	for k := range a.kept {
		if strings.HasPrefix(k, a.table) {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	for _, k := range keys {
		line, err := json.Marshal(answer{k, a.kept[k]})
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "%s\n", line)
	}
	if err := os.WriteFile(a.path, []byte(b.String()), 0o644); err != nil {
		t.Fatal(err)
	}
}

// compete runs a sampler with a seed, by what is kept or by Python; false when
// there is neither.
func (a *answers) compete(t testing.TB, g *ground, o optuna, seed uint64, p *python) (*race, bool) {
	t.Helper()
	r := g.start(seed)
	if o.Filtered {
		g.payCalibration(r)
	}
	key := fmt.Sprintf("%s.%d %s, %s, seed %d", a.table, trials, g.name, o, seed)
	if asks, ok := a.kept[key]; ok {
		known := map[int]tried{}
		for _, i := range asks {
			r.answer(o, i, known)
		}
		if !r.over() && len(asks) < maxAsks {
			t.Fatalf("%s: what Optuna was told then is not what it would be told now: count trials up, and ask it anew", key)
		}
		r.finish()
		return r, true
	}
	if p == nil {
		return nil, false
	}
	var asks []int
	known := map[int]tried{}
	at := p.start(t, o, seed, g.m.table.Head)
	for len(asks) < maxAsks {
		i := g.index(at)
		asks = append(asks, i)
		v := r.answer(o, i, known)
		if r.over() {
			break
		}
		at = p.tell(t, v)
	}
	a.kept[key], a.fresh = asks, true
	r.finish()
	return r, true
}

// answer tries a point that was asked for. One that was asked for before, or that
// the filter knows not to fit, costs nothing.
func (r *race) answer(o optuna, i int, known map[int]tried) tried {
	if v, ok := known[i]; ok {
		return v
	}
	p := r.points[i]
	if o.Filtered && r.truth[p].PeakBytes > r.limit {
		return tried{}
	}
	known[i] = r.consider(p)
	return known[i]
}

// payCalibration charges a race with tune's calibration bursts on this ground.
func (g *ground) payCalibration(r *race) {
	r.processes += g.calibration.processes
	r.seconds += g.calibration.seconds
}

// index finds the point of values' indices, in the order of Head.Points.
func (g *ground) index(at []int) int {
	h := g.m.table.Head
	batches := h.Batches()
	want := search.Point{Bits: h.Bits[at[0]], Rank: h.Ranks[at[1]], Checkpointing: at[2] == 1, Batch: batches[at[3]],
		Accumulation: h.Effective / batches[at[3]], MaxSeqLength: g.points[0].MaxSeqLength}
	return slices.Index(g.points, want)
}

// python is a process of asks.py.
type python struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

func startPython(t testing.TB, interpreter string) *python {
	t.Helper()
	if interpreter == "" {
		return nil
	}
	p := &python{cmd: exec.Command(interpreter, "asks.py")}
	p.cmd.Stderr = os.Stderr
	var err error
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.out = bufio.NewReader(out)
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.in.Close(); _ = p.cmd.Wait() })
	return p
}

func (p *python) start(t testing.TB, o optuna, seed uint64, h Head) []int {
	return p.say(t, map[string]any{"op": "start", "sampler": o.Sampler, "startup": o.Startup, "seed": seed,
		"sizes": []int{len(h.Bits), len(h.Ranks), 2, len(h.Batches())}, "ordered": []bool{false, true, false, true}})
}

func (p *python) tell(t testing.TB, v tried) []int {
	m := map[string]any{"op": "tell", "value": nil}
	if v.value > 0 {
		m["value"] = v.value
	}
	return p.say(t, m)
}

func (p *python) say(t testing.TB, v any) []int {
	t.Helper()
	line, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.in.Write(append(line, '\n')); err != nil {
		t.Fatal(err)
	}
	answer, err := p.out.ReadBytes('\n')
	if err != nil {
		t.Fatal(err)
	}
	var ask struct{ Ask []int }
	if err := json.Unmarshal(answer, &ask); err != nil {
		t.Fatal(err)
	}
	return ask.Ask
}
