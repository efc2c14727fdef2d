package tape

import (
	"slices"
	"time"

	"github.com/mlxdyno/mlxdyno/mlxbind"
)

// Piece is what a function of a Graph's nodes is made of.
type Piece struct {
	Graph   *mlxbind.Graph
	In, Out []int // nodes that it is given and that it returns
}

// Operations are the nodes that the piece computes, each after its inputs. Of an
// operation with several results it is the first.
func (p *Piece) Operations() []int {
	g := p.Graph
	given, needed := make([]bool, len(g.Nodes)), make([]bool, len(g.Nodes))
	for _, i := range p.In {
		given[i] = true
	}
	for _, i := range p.Out {
		needed[i] = true
	}
	var all []int
	for i, n := range slices.Backward(g.Nodes) {
		if !needed[i] || given[i] {
			continue
		}
		for _, k := range n.Inputs {
			needed[k] = true
		}
		if n.Op != "" && (len(all) == 0 || all[len(all)-1] != n.First) {
			all = append(all, n.First)
		}
	}
	slices.Reverse(all)
	return all
}

// IsView reports whether an operation only looks at its input in another way.
func IsView(op string) bool { return slices.Contains(views, op) }

// IsProduct reports whether an operation is one of those that are worth keeping:
// a matrix product, attention, or a look-up.
func IsProduct(op string) bool { return slices.Contains(products, op) }

// Results are the nodes of all results of an operation.
func (p *Piece) Results(first int) []int {
	var all []int
	for i := first; i < len(p.Graph.Nodes) && p.Graph.Nodes[i].First == first; i++ {
		all = append(all, i)
	}
	return all
}

// OneByOne computes the piece one operation after the other, each waited for,
// and returns the seconds that each took, in the order of Operations. A wait
// that does nothing is taken off. Fused or side by side, as the whole is computed, they
// may take less; it is their proportions that tell something.
func (p *Piece) OneByOne(s *mlxbind.Scope, in []mlxbind.Array) (seconds []float64, err error) {
	ops := p.Operations()
	seconds = make([]float64, len(ops))
	err = s.Child(func(c *mlxbind.Scope) error {
		if err := c.Eval(in...); err != nil {
			return err
		}
		idle := idle(c)
		last := make([]int, len(p.Graph.Nodes)) // operation that reads a node last
		for at, op := range ops {
			for _, k := range p.Graph.Nodes[op].Inputs {
				last[k] = at
			}
		}
		have := make([]mlxbind.Array, len(p.Graph.Nodes))
		for i, node := range p.In {
			have[node] = in[i]
		}
		for at, op := range ops {
			var from []int
			var given []mlxbind.Array
			for _, k := range p.Graph.Nodes[op].Inputs {
				if !have[k].IsNone() && !slices.Contains(from, k) {
					from, given = append(from, k), append(given, have[k])
				}
			}
			results := p.Results(op)
			f := p.Graph.Part(c, from, results, false)
			began := time.Now()
			out := f.Call(c, given...)
			if err := c.Eval(out...); err != nil {
				return err
			}
			seconds[at] = max(0, (time.Since(began) - idle).Seconds())
			f.Free(c)
			for i, node := range results {
				if have[node].IsNone() { // else it is given
					have[node] = out[i]
				}
			}
			for _, k := range p.Graph.Nodes[op].Inputs {
				if last[k] == at && !have[k].IsNone() && !slices.Contains(p.In, k) {
					c.Free(have[k])
					have[k] = mlxbind.Array{}
				}
			}
		}
		return c.Err()
	})
	return seconds, err
}

// idle is how long it takes to have nothing computed.
func idle(c *mlxbind.Scope) time.Duration {
	x := c.Scalar(0, mlxbind.Float32)
	c.Fail(c.Eval(x))
	least := time.Hour
	for range 20 {
		began := time.Now()
		c.Fail(c.Eval(c.ExpandDims(x, 0)))
		least = min(least, time.Since(began))
	}
	return least
}
