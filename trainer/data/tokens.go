package data

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"os"
)

// A token file, little endian throughout:
//
//	 0  8 bytes   magic
//	 8  uint32    version
//	12  uint32    CRC-32 (IEEE) of everything from byte 16 on
//	16  uint64    rows R
//	24  uint64    tokens T
//	32  uint64    bytes M of the description
//	40  24 bytes  zero
//	64  int32[T]  tokens, row after row, then zeros to a multiple of 8 bytes
//	    int64[R+1] where each row begins, in tokens; the last is T
//	    int32[R]  prompt lengths, then zeros to a multiple of 8 bytes
//	    M bytes   description: JSON
//
// Every array lies on a multiple of 8 bytes, so that a worker can map the file
// and read it in place. A file of another size than its header says, or with
// another checksum, is damaged and made anew.
const (
	tokensMagic   = "MLXDTOKS"
	tokensVersion = 1
	headerBytes   = 64
	checkedFrom   = 16
	maxMetaBytes  = 1 << 20
)

// tokensMeta describes how a token file came about.
type tokensMeta struct {
	Key       string    `json:"key"`
	Split     string    `json:"split"`
	Format    string    `json:"format"`
	Malformed int       `json:"malformed"` // rows that could not be tokenized
	Problems  []Problem `json:"problems,omitempty"`
}

// tokensWriter writes a token file while rows come in.
type tokensWriter struct {
	file    *os.File
	buf     *bufio.Writer
	starts  []int64
	prompts []int32
}

func createTokens(path string) (*tokensWriter, error) {
	f, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	w := &tokensWriter{file: f, buf: bufio.NewWriterSize(f, 1<<20), starts: []int64{0}}
	_, err = w.buf.Write(make([]byte, headerBytes))
	return w, err
}

// row appends one row: little-endian int32 tokens.
func (w *tokensWriter) row(prompt int32, tokens []byte) error {
	w.starts = append(w.starts, w.starts[len(w.starts)-1]+int64(len(tokens)/4))
	w.prompts = append(w.prompts, prompt)
	_, err := w.buf.Write(tokens)
	return err
}

// finish writes the tables and the header and makes the file durable.
func (w *tokensWriter) finish(meta tokensMeta) error {
	defer w.file.Close()
	tokens := w.starts[len(w.starts)-1]
	desc, err := json.Marshal(meta)
	if err != nil {
		return err
	}
	var tail []byte
	tail = append(tail, make([]byte, padding(4*tokens))...)
	for _, s := range w.starts {
		tail = binary.LittleEndian.AppendUint64(tail, uint64(s))
	}
	for _, p := range w.prompts {
		tail = binary.LittleEndian.AppendUint32(tail, uint32(p))
	}
	tail = append(tail, make([]byte, padding(4*int64(len(w.prompts))))...)
	tail = append(tail, desc...)
	if _, err := w.buf.Write(tail); err != nil {
		return err
	}
	if err := w.buf.Flush(); err != nil {
		return err
	}
	head := make([]byte, headerBytes)
	copy(head, tokensMagic)
	binary.LittleEndian.PutUint32(head[8:], tokensVersion)
	binary.LittleEndian.PutUint64(head[16:], uint64(len(w.prompts)))
	binary.LittleEndian.PutUint64(head[24:], uint64(tokens))
	binary.LittleEndian.PutUint64(head[32:], uint64(len(desc)))
	sum := crc32.NewIEEE()
	sum.Write(head[checkedFrom:])
	if _, err := w.file.Seek(headerBytes, io.SeekStart); err != nil {
		return err
	}
	if _, err := io.Copy(sum, w.file); err != nil {
		return err
	}
	binary.LittleEndian.PutUint32(head[12:], sum.Sum32())
	if _, err := w.file.WriteAt(head, 0); err != nil {
		return err
	}
	if err := w.file.Sync(); err != nil {
		return err
	}
	return w.file.Close()
}

// padding is the number of bytes from n to the next multiple of 8.
func padding(n int64) int64 { return -n & 7 }

// openTokens reads what planning needs of a token file: lengths and prompts. It
// reads the whole file once, to check it.
func openTokens(path string) (*Split, tokensMeta, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, tokensMeta{}, err
	}
	defer f.Close()
	return readTokenFile(f)
}

// readTokenFile is readTokens for a file, which its errors name.
func readTokenFile(f *os.File) (*Split, tokensMeta, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, tokensMeta{}, err
	}
	s, meta, err := readTokens(f, info.Size())
	if err != nil {
		return nil, meta, fmt.Errorf("read token file %s: %w", f.Name(), err)
	}
	s.Path = f.Name()
	return s, meta, nil
}

// readTokens reads a token file of the given size. It allocates no more than
// in proportion to that size, whatever the header says.
func readTokens(in io.Reader, size int64) (*Split, tokensMeta, error) {
	fail := func(err error) (*Split, tokensMeta, error) { return nil, tokensMeta{}, err }
	if size < headerBytes {
		return fail(fmt.Errorf("%d bytes are too few for its header", size))
	}
	buf := bufio.NewReaderSize(in, 1<<20)
	head := make([]byte, headerBytes)
	if _, err := io.ReadFull(buf, head); err != nil {
		return fail(fmt.Errorf("its header: %w", err))
	}
	if string(head[:8]) != tokensMagic {
		return fail(errors.New("it is not a token file"))
	}
	if v := binary.LittleEndian.Uint32(head[8:]); v != tokensVersion {
		return fail(fmt.Errorf("version %d is not %d", v, tokensVersion))
	}
	rows, tokens, metaBytes := binary.LittleEndian.Uint64(head[16:]), binary.LittleEndian.Uint64(head[24:]), binary.LittleEndian.Uint64(head[32:])
	if rows > uint64(size) || tokens > uint64(size) || metaBytes > maxMetaBytes {
		return fail(errors.New("its header claims more than the file holds"))
	}
	tokenBytes := int64(4*tokens) + padding(int64(4*tokens))
	promptBytes := int64(4*rows) + padding(int64(4*rows))
	if want := headerBytes + tokenBytes + int64(8*(rows+1)) + promptBytes + int64(metaBytes); want != size {
		return fail(fmt.Errorf("%d bytes instead of %d", size, want))
	}
	sum := crc32.NewIEEE()
	sum.Write(head[checkedFrom:])
	body := io.TeeReader(buf, sum)
	if _, err := io.CopyN(io.Discard, body, tokenBytes); err != nil {
		return fail(err)
	}
	rest := make([]byte, size-headerBytes-tokenBytes)
	if _, err := io.ReadFull(body, rest); err != nil {
		return fail(err)
	}
	if sum.Sum32() != binary.LittleEndian.Uint32(head[12:]) {
		return fail(errors.New("its checksum is wrong"))
	}
	s := &Split{Lengths: make([]int32, rows), Prompts: make([]int32, rows)}
	starts, prompts := rest[:8*(rows+1)], rest[8*(rows+1):]
	start := func(i uint64) uint64 { return binary.LittleEndian.Uint64(starts[8*i:]) }
	if start(0) != 0 || start(rows) != tokens {
		return fail(errors.New("its rows do not cover its tokens"))
	}
	for i := range rows {
		from, to := start(i), start(i+1)
		prompt := int32(binary.LittleEndian.Uint32(prompts[4*i:]))
		if to < from || to > tokens || to-from > math.MaxInt32 || prompt < 0 {
			return fail(fmt.Errorf("row %d is impossible", i))
		}
		s.Lengths[i], s.Prompts[i] = int32(to-from), prompt
	}
	var meta tokensMeta
	if err := json.Unmarshal(rest[int64(8*(rows+1))+promptBytes:], &meta); err != nil {
		return fail(fmt.Errorf("its description: %w", err))
	}
	return s, meta, nil
}
