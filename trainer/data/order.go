package data

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math/bits"
)

// Generator draws as numpy's legacy global generator does, bit for bit: mlx-lm
// seeds that one with np.random.seed and orders batches with
// np.random.permutation. It is Matsumoto and Nishimura's MT19937.
type Generator struct{ state GeneratorState }

// Parameters of MT19937, as in its authors' paper.
const (
	twisterWords = 624
	twisterShift = 397
)

// GeneratorState is where a Generator is. States compare with ==. The zero
// value is the state of none.
//
// In JSON it is one string: in base64 its 624 words and the number of words
// used, little endian. That is what decides permutations; a normal deviate that
// numpy may keep besides does not.
type GeneratorState struct {
	words [twisterWords]uint32
	used  int // of words, at least 1
}

// NewGenerator returns a generator in the state to which np.random.seed brings
// numpy's. Numpy takes no larger seeds either.
func NewGenerator(seed uint32) *Generator {
	g := &Generator{GeneratorState{used: twisterWords}}
	for i := range g.state.words {
		g.state.words[i] = seed
		seed = 1812433253*(seed^seed>>30) + uint32(i) + 1
	}
	return g
}

// State returns where the generator is.
func (g *Generator) State() GeneratorState { return g.state }

// SetState puts the generator where another one was. It panics on the zero
// value.
func (g *Generator) SetState(s GeneratorState) {
	if err := s.check(); err != nil {
		panic("data: " + err.Error())
	}
	g.state = s
}

// Permutation returns 0 … n-1 in the order of np.random.permutation(n), for n
// up to 2³².
func (g *Generator) Permutation(n int) []int {
	out := make([]int, n)
	for i := range out {
		out[i] = i
	}
	for i := n - 1; i > 0; i-- {
		j := g.upTo(uint32(i))
		out[i], out[j] = out[j], out[i]
	}
	return out
}

// upTo draws from 0 … limit: numbers of as many bits as limit has, until one is
// not above it.
func (g *Generator) upTo(limit uint32) uint32 {
	mask := uint32(1)<<bits.Len32(limit) - 1
	for {
		if v := g.next() & mask; v <= limit {
			return v
		}
	}
}

func (g *Generator) next() uint32 {
	if g.state.used == twisterWords {
		g.twist()
	}
	y := g.state.words[g.state.used]
	g.state.used++
	y ^= y >> 11
	y ^= y << 7 & 0x9d2c5680
	y ^= y << 15 & 0xefc60000
	return y ^ y>>18
}

// twist replaces all words.
func (g *Generator) twist() {
	w := &g.state.words
	for i := range w {
		y := w[i]&0x80000000 | w[(i+1)%twisterWords]&0x7fffffff
		w[i] = w[(i+twisterShift)%twisterWords] ^ y>>1 ^ (y&1)*0x9908b0df
	}
	g.state.used = 0
}

// check says why no generator can be in the state. Words that are all zero
// would stay so.
func (s *GeneratorState) check() error {
	if s.used < 1 || s.used > twisterWords || s.words == [twisterWords]uint32{} {
		return errors.New("this is no generator's state")
	}
	return nil
}

// MarshalJSON implements json.Marshaler.
func (s GeneratorState) MarshalJSON() ([]byte, error) {
	b := make([]byte, 0, 4*twisterWords+2)
	for _, w := range s.words {
		b = binary.LittleEndian.AppendUint32(b, w)
	}
	return json.Marshal(binary.LittleEndian.AppendUint16(b, uint16(s.used)))
}

// UnmarshalJSON implements json.Unmarshaler.
func (s *GeneratorState) UnmarshalJSON(text []byte) error {
	var b []byte
	if err := json.Unmarshal(text, &b); err != nil {
		return fmt.Errorf("decode generator state: %w", err)
	}
	if len(b) != 4*twisterWords+2 {
		return fmt.Errorf("decode generator state: %d bytes instead of %d", len(b), 4*twisterWords+2)
	}
	var read GeneratorState
	for i := range read.words {
		read.words[i] = binary.LittleEndian.Uint32(b[4*i:])
	}
	read.used = int(binary.LittleEndian.Uint16(b[4*twisterWords:]))
	if err := read.check(); err != nil {
		return fmt.Errorf("decode generator state: %w", err)
	}
	*s = read
	return nil
}
