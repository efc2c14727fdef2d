package data

import (
	"bufio"
	"bytes"
	"context"
	_ "embed"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"time"
)

//go:embed tokenize.py
var tokenizeScript string

const (
	blockRows      = 256  // rows that go to one process in turn; tokenize.py flushes as often
	rowsPerProcess = 4000 // a further process pays from about this many rows on
	maxProcesses   = 8
)

var formatLetters = map[string]byte{FormatCompletions: 'p', FormatChat: 'm', FormatText: 't'}

// place says where a row came from and where its tokens go.
type place struct {
	file  *file
	line  int
	split string
}

// tokenize writes a token file for each split into dir. Blocks of rows go to
// the processes in turn and their tokens are taken in the same order, so the
// result does not depend on how many processes there are.
func tokenize(ctx context.Context, o Options, s Spec, src *Source, key, dir string) error {
	total := map[string]int{}
	isHeld := func([]byte) bool { return false }
	rows := 0
	for _, f := range src.files {
		total[f.split] = f.rows
		rows += f.rows
	}
	if src.HeldOut {
		var held int
		var err error
		if isHeld, held, err = src.files[0].holdOut(); err != nil {
			return err
		}
		total[Train] -= held
		total[Valid] = held
	}

	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	procs := make([]*tokenizer, min(1+rows/rowsPerProcess, runtime.NumCPU(), maxProcesses))
	for i := range procs {
		p, err := startTokenizer(ctx, o, s)
		if err != nil {
			return err
		}
		defer func() {
			cancel(nil)
			p.cmd.Wait() //nolint:errcheck // how it ends no longer matters
		}()
		procs[i] = p
	}
	// Rows on their way: more than a block, so that the feeder always gets to
	// the end of the block for which the collector waits.
	places := make(chan place, 4*blockRows)
	fed := make(chan struct{})
	go func() {
		defer close(fed)
		defer close(places)
		if err := feed(ctx, src, isHeld, procs, places); err != nil {
			cancel(err) // no process gets the rest of its block
		}
	}()
	c := collector{o: o, total: total, dir: dir, out: map[string]*splitWriter{}}
	defer c.close()
	err := c.collect(ctx, procs, places)
	if err != nil {
		cancel(err)
	}
	<-fed
	if err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		return err
	}
	return c.finish(key)
}

// lostError is a process that no longer takes rows.
type lostError struct{ p *tokenizer }

func (*lostError) Error() string { return "tokenize: a process ended early" }

// feed sends every row to its process.
func feed(ctx context.Context, src *Source, isHeld func([]byte) bool, procs []*tokenizer, places chan<- place) error {
	n := 0
	var text []byte
	for _, f := range src.files {
		letter := formatLetters[f.format]
		err := f.lines(func(line int, row []byte) error {
			p := procs[n/blockRows%len(procs)]
			split := f.split
			if f.split == Train && isHeld(row) {
				split = Valid
			}
			select {
			case places <- place{f, line, split}:
			case <-ctx.Done():
				return ctx.Err()
			}
			n++
			text = append(append(append(text[:0], letter), row...), '\n')
			_, err := p.in.Write(text)
			if err == nil && n%blockRows == 0 {
				err = p.in.Flush()
			}
			if err != nil {
				return &lostError{p}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	for _, p := range procs {
		if err := errors.Join(p.in.Flush(), p.stdin.Close()); err != nil {
			return &lostError{p}
		}
	}
	return nil
}

// splitWriter is the token file of one split in the making.
type splitWriter struct {
	*tokensWriter
	meta tokensMeta
	done int
}

type collector struct {
	o     Options
	total map[string]int
	dir   string
	out   map[string]*splitWriter
}

func (c *collector) collect(ctx context.Context, procs []*tokenizer, places <-chan place) error {
	n := 0
	for at := range places {
		p := procs[n/blockRows%len(procs)]
		n++
		row, ok := <-p.rows
		if !ok {
			return whyEnded(ctx, p)
		}
		w, err := c.writer(at)
		if err != nil {
			return fmt.Errorf("write tokens: %w", err)
		}
		if row.problem != "" {
			w.meta.Malformed++
			w.meta.Problems = keepTelling(append(w.meta.Problems,
				Problem{File: at.file.path, Line: at.line, Text: "cannot be tokenized: " + row.problem, Malformed: true}))
		} else if err := w.row(row.prompt, row.tokens); err != nil {
			return fmt.Errorf("write tokens: %w", err)
		}
		w.done++
		if c.o.Progress != nil && (w.done%blockRows == 0 || w.done == c.total[at.split]) {
			c.o.Progress(at.split, w.done, c.total[at.split])
		}
	}
	return nil
}

// whyEnded says why p gave no more rows: by itself, because another process
// ended, or because everything was called off.
func whyEnded(ctx context.Context, p *tokenizer) error {
	if cause := context.Cause(ctx); cause != nil {
		var lost *lostError
		if !errors.As(cause, &lost) {
			return fmt.Errorf("tokenize: %w", cause)
		}
		p = lost.p
		for range p.rows { // until its last words are in
		}
	}
	return p.failure()
}

func (c *collector) writer(at place) (*splitWriter, error) {
	if w := c.out[at.split]; w != nil {
		return w, nil
	}
	t, err := createTokens(filepath.Join(c.dir, at.split+".tokens"))
	if err != nil {
		return nil, err
	}
	w := &splitWriter{tokensWriter: t, meta: tokensMeta{Split: at.split, Format: at.file.format}}
	c.out[at.split] = w
	return w, nil
}

// finish judges what could not be tokenized and completes the files.
func (c *collector) finish(key string) error {
	for _, w := range c.out {
		if float64(w.meta.Malformed) > maxMalformedShare*float64(w.done) {
			p := w.meta.Problems[0]
			return &Error{Path: p.File, Line: p.Line,
				Text: fmt.Sprintf("the row %s; %d of %d rows are like that", p.Text, w.meta.Malformed, w.done),
				Fix:  "repair or remove them, or use a model whose chat template takes them"}
		}
		w.meta.Key = key
		if err := w.finish(w.meta); err != nil {
			return fmt.Errorf("write tokens: %w", err)
		}
	}
	return nil
}

func (c *collector) close() {
	for _, w := range c.out {
		w.file.Close()
	}
}

// tokenizer is one Python process.
type tokenizer struct {
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	in     *bufio.Writer
	rows   chan tokenRow // closed at the end of its output
	stderr tail
	fatal  string // why it gave up; read after rows is closed
	model  string
}

type tokenRow struct {
	prompt  int32
	tokens  []byte
	problem string
}

func startTokenizer(ctx context.Context, o Options, s Spec) (*tokenizer, error) {
	t := &tokenizer{rows: make(chan tokenRow, 2*blockRows), model: s.Model}
	t.cmd = exec.CommandContext(ctx, o.Python, "-I", "-X", "utf8", "-c", tokenizeScript)
	t.cmd.Env = append(append([]string{}, o.Environ...), "HF_HUB_OFFLINE=1", "TRANSFORMERS_OFFLINE=1", "TOKENIZERS_PARALLELISM=false")
	t.cmd.Stderr = &t.stderr
	t.cmd.WaitDelay = 5 * time.Second
	t.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // an interrupt from the terminal reaches it through ctx alone
	stdin, err := t.cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("start tokenizer: %w", err)
	}
	stdout, err := t.cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("start tokenizer: %w", err)
	}
	if err := t.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start tokenizer: %w; run `mlxdyno setup`", err)
	}
	t.stdin, t.in = stdin, bufio.NewWriterSize(stdin, 64<<10)
	spec, err := json.Marshal(map[string]any{"model": s.Model, "mask_prompt": s.MaskPrompt})
	if err != nil {
		return nil, err
	}
	if _, err := t.in.Write(append(spec, '\n')); err != nil {
		return nil, fmt.Errorf("start tokenizer: %w", err)
	}
	go func() {
		defer close(t.rows)
		t.read(ctx, bufio.NewReaderSize(stdout, 1<<20))
	}()
	return t, nil
}

func (t *tokenizer) read(ctx context.Context, out io.Reader) {
	const badRow, giveUp = -1, -2
	head := make([]byte, 8)
	for {
		if _, err := io.ReadFull(out, head); err != nil {
			return
		}
		n, second := int32(binary.LittleEndian.Uint32(head)), int32(binary.LittleEndian.Uint32(head[4:]))
		row := tokenRow{prompt: second}
		size := 4 * int64(n)
		if n < 0 {
			size = int64(second)
		}
		body := make([]byte, max(size, 0))
		if _, err := io.ReadFull(out, body); err != nil {
			return
		}
		switch n {
		case giveUp:
			t.fatal = string(body)
			return
		case badRow:
			row = tokenRow{problem: string(body)}
		default:
			row.tokens = body
		}
		select {
		case t.rows <- row:
		case <-ctx.Done():
			return
		}
	}
}

// failure says why the process ended early.
func (t *tokenizer) failure() error {
	if t.fatal != "" {
		return &Error{Path: t.model, Text: "the tokenizer cannot be loaded: " + t.fatal, Fix: "check the model's tokenizer files, or download them again"}
	}
	err := t.cmd.Wait()
	if err == nil {
		err = errors.New("without an error")
	}
	return fmt.Errorf("tokenize: Python ended early: %w: %s; run `mlxdyno setup` to check the environment", err, t.stderr.last())
}

// tail keeps the end of what a process prints.
type tail struct{ b []byte }

func (t *tail) Write(p []byte) (int, error) {
	const keep = 4 << 10
	t.b = append(t.b, p...)
	if len(t.b) > keep {
		t.b = t.b[len(t.b)-keep:]
	}
	return len(p), nil
}

// last is the last line, which in Python names the error.
func (t *tail) last() string {
	lines := bytes.Split(bytes.TrimSpace(t.b), []byte{'\n'})
	return string(lines[len(lines)-1])
}
