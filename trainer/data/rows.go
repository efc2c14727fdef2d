package data

import (
	"encoding/binary"
	"fmt"
	"iter"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/mlxdyno/mlxdyno/trainer"
)

// Rows are the rows of a token file, in place: the file is mapped, and tokens
// are read from the disk when they are first looked at. Prepare never alters a
// file that it has made, so what was checked stays as it was.
type Rows struct {
	split    *Split
	starts   []int // one more than rows
	tokens   []int32
	mapped   []byte
	checksum uint32
}

// OpenRows maps a token file. It reads the file once, to check it.
func OpenRows(path string) (*Rows, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read token file: %w", err)
	}
	defer f.Close()
	split, _, err := readTokenFile(f)
	if err != nil {
		return nil, err
	}
	r := &Rows{split: split, starts: make([]int, len(split.Lengths)+1)}
	for i, n := range split.Lengths {
		r.starts[i+1] = r.starts[i] + int(n)
	}
	tokens := r.starts[len(split.Lengths)]
	if r.mapped, err = unix.Mmap(int(f.Fd()), 0, headerBytes+4*tokens, unix.PROT_READ, unix.MAP_SHARED); err != nil {
		return nil, fmt.Errorf("map token file %s: %w", path, err)
	}
	r.checksum = binary.LittleEndian.Uint32(r.mapped[12:])
	// Little endian is the order of every machine that MLX runs on.
	r.tokens = unsafe.Slice((*int32)(unsafe.Add(unsafe.Pointer(unsafe.SliceData(r.mapped)), headerBytes)), tokens)
	return r, nil
}

// Close unmaps the file. Tokens that were looked at before must not be used any
// more.
func (r *Rows) Close() error {
	mapped := r.mapped
	r.mapped, r.tokens = nil, nil
	if mapped == nil {
		return nil
	}
	if err := unix.Munmap(mapped); err != nil {
		return fmt.Errorf("unmap token file %s: %w", r.split.Path, err)
	}
	return nil
}

// Len is the number of rows.
func (r *Rows) Len() int { return len(r.split.Lengths) }

// Tokens are those of row i, valid until Close. They are not to be written.
func (r *Rows) Tokens(i int) []int32 {
	from, to := r.starts[i], r.starts[i+1]
	return r.tokens[from:to:to]
}

// Prompt is the number of leading tokens of row i that are not supervised.
func (r *Rows) Prompt(i int) int32 { return r.split.Prompts[i] }

// Lengths are the rows' numbers of tokens. They are not to be written.
func (r *Rows) Lengths() []int32 { return r.split.Lengths }

// Prompts are the numbers that Prompt tells, of all rows. They are not to be
// written.
func (r *Rows) Prompts() []int32 { return r.split.Prompts }

// Checksum tells the file from one with other rows.
func (r *Rows) Checksum() uint32 { return r.checksum }

// Fill returns what mlx-lm's iterate_batches yields for a batch that was planned
// with the same maxSeqLength: Batch × Width tokens, where rows are cut at
// maxSeqLength and followed by zeros, and for each row its prompt and its length
// as cut. Of a packed batch the rows, so cut, follow each other without zeros.
func (r *Rows) Fill(b Batch, maxSeqLength int) (tokens, spans []int32) {
	spans = make([]int32, 0, 2*len(b.Rows))
	if b.Shape.Packed > 0 {
		tokens = make([]int32, 0, b.Shape.Packed+len(b.Rows)) // a position less than tokens in each row
		for _, row := range b.Rows {
			from := r.Tokens(row)
			n := min(len(from), maxSeqLength)
			tokens = append(tokens, from[:n]...)
			spans = append(spans, r.Prompt(row), int32(n))
		}
		return tokens, spans
	}
	width := b.Shape.Width
	tokens = make([]int32, len(b.Rows)*width)
	for i, row := range b.Rows {
		from := r.Tokens(row)
		n := min(len(from), maxSeqLength)
		copy(tokens[i*width : (i+1)*width : (i+1)*width][:n], from)
		spans = append(spans, r.Prompt(row), int32(n))
	}
	return tokens, spans
}

// ExactBatch is a batch without padding, in the form of Rows.Fill.
type ExactBatch struct {
	Shape         trainer.Shape
	New           bool // the first of its shape
	Tokens, Spans []int32
}

// Exact returns the batches of a job with shapes: for each shape its Steps, at
// least one, made of one row after the other, endlessly, each cut or repeated to
// the full width. Packed or not, the tokens are the same. There must be a row.
func Exact(rows *Rows, shapes []trainer.Shape, packed bool) iter.Seq[ExactBatch] {
	return func(yield func(ExactBatch) bool) {
		at := 0
		for _, s := range shapes {
			for step := range max(s.Steps, 1) {
				b := ExactBatch{Shape: trainer.Shape{Batch: s.Batch, Width: s.Width}, New: step == 0}
				if packed {
					b.Shape.Packed = s.Batch * (s.Width - 1)
				}
				b.Tokens = make([]int32, s.Batch*s.Width)
				for i := range s.Batch {
					repeat(b.Tokens[i*s.Width:(i+1)*s.Width], rows.Tokens(at%rows.Len()))
					b.Spans = append(b.Spans, 0, int32(s.Width))
					at++
				}
				if !yield(b) {
					return
				}
			}
		}
	}
}

// repeat fills to with from, over and over; with nothing it cannot.
func repeat(to, from []int32) {
	for len(to) > 0 && len(from) > 0 {
		to = to[copy(to, from):]
	}
}
