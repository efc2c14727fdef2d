package data

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
)

// Source is text on disk whose every line has been judged.
type Source struct {
	Path      string
	Format    string         // of the training rows
	Rows      map[string]int // usable rows by split, before any are held out
	Malformed int            // in all splits
	Problems  []Problem      // the first maxProblems
	HeldOut   bool           // there are no validation rows: Prepare will hold some out

	files []*file
}

// file is one split's text.
type file struct {
	split, path, format string

	rows      int
	malformed int
	skip      map[int]bool // lines that are no rows
	sum       [sha256.Size]byte
}

// Inspect reads and judges the text at path: a directory with train.jsonl and
// optionally valid.jsonl and test.jsonl, or a single file of training rows. It
// needs no tokenizer and no Python. A *Error says what makes it unusable.
func Inspect(path string) (*Source, error) {
	files, err := findFiles(path)
	if err != nil {
		return nil, err
	}
	s := &Source{Path: path, Rows: map[string]int{}, HeldOut: true}
	for _, f := range files {
		problems, err := f.inspect()
		if err != nil {
			return nil, err
		}
		s.Malformed += f.malformed
		s.Problems = append(s.Problems, problems...)
		if f.rows == 0 && f.malformed == 0 && f.split != Train {
			continue // as if it were not there
		}
		if err := f.verdict(problems); err != nil {
			return nil, err
		}
		s.files = append(s.files, f)
		s.Rows[f.split] = f.rows
		s.HeldOut = s.HeldOut && f.split != Valid
	}
	s.Problems = keepTelling(s.Problems)
	s.Format = s.files[0].format
	return s, nil
}

func findFiles(path string) ([]*file, error) {
	if path == "" {
		return nil, &Error{Path: "data", Text: "none named", Fix: "give --data DIR or FILE.jsonl"}
	}
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &Error{Path: path, Text: "there is no such file or directory", Fix: "give --data a directory with train.jsonl, or one .jsonl file"}
	}
	if err != nil {
		return nil, fmt.Errorf("read data: %w", err)
	}
	if !info.IsDir() {
		return []*file{{split: Train, path: path}}, nil
	}
	var files []*file
	for _, split := range []string{Train, Valid, Test} {
		p := filepath.Join(path, split+".jsonl")
		_, err := os.Stat(p)
		switch {
		case err == nil:
			files = append(files, &file{split: split, path: p})
		case !errors.Is(err, fs.ErrNotExist):
			return nil, fmt.Errorf("read data: %w", err)
		case split == Train:
			return nil, &Error{Path: path, Text: "the directory has no train.jsonl", Fix: "put the training rows there, one JSON object a line"}
		}
	}
	return files, nil
}

// verdict refuses a file that is empty or malformed beyond chance.
func (f *file) verdict(problems []Problem) error {
	if f.rows == 0 && f.malformed == 0 {
		return &Error{Path: f.path, Text: "has no rows", Fix: "write one JSON object a line"}
	}
	if float64(f.malformed) <= maxMalformedShare*float64(f.rows+f.malformed) {
		return nil
	}
	for _, p := range problems {
		if p.Malformed {
			return &Error{Path: p.File, Line: p.Line,
				Text: fmt.Sprintf("the line %s; %d of %d lines cannot be used", p.Text, f.malformed, f.rows+f.malformed),
				Fix:  "repair or remove them"}
		}
	}
	return nil
}

// block is a stretch of whole lines, judged by a goroutine of its own.
type block struct {
	data   []byte
	format string
	first  int // number of its first line
	result chan []Problem
	rows   int
	blanks []int
}

const blockBytes = 1 << 20

// inspect judges every line, sets the file's counts and returns what is wrong.
func (f *file) inspect() ([]Problem, error) {
	in, err := os.Open(f.path)
	if err != nil {
		return nil, fmt.Errorf("read data: %w", err)
	}
	defer in.Close()
	sum := sha256.New()
	queue := make(chan *block, runtime.GOMAXPROCS(0))
	var readErr error
	go func() {
		defer close(queue)
		readErr = f.cut(bufio.NewReaderSize(io.TeeReader(in, sum), blockBytes), func(b *block) {
			queue <- b
			go func() { b.result <- b.judge(f.path) }()
		})
	}()
	var problems []Problem
	f.skip = map[int]bool{}
	for b := range queue {
		found := <-b.result
		f.rows += b.rows
		for _, n := range b.blanks {
			f.skip[n] = true
		}
		for _, p := range found {
			if p.Malformed {
				f.malformed++
				f.skip[p.Line] = true
			}
		}
		problems = keepTelling(append(problems, found...))
	}
	if readErr != nil {
		return nil, fmt.Errorf("read data: %w", readErr)
	}
	f.sum = sumOf(sum)
	return problems, nil
}

// keepTelling cuts the list to what is shown, malformed lines before others.
func keepTelling(problems []Problem) []Problem {
	if len(problems) <= maxProblems {
		return problems
	}
	var kept []Problem
	for _, malformed := range []bool{true, false} {
		for _, p := range problems {
			if p.Malformed == malformed && len(kept) < maxProblems {
				kept = append(kept, p)
			}
		}
	}
	return kept
}

// cut hands out blocks of whole lines. The format is known after the first.
func (f *file) cut(in *bufio.Reader, emit func(*block)) error {
	line := 1
	for {
		buf := make([]byte, blockBytes, blockBytes+blockBytes/8)
		n, err := io.ReadFull(in, buf)
		buf = buf[:n]
		if err == nil && buf[n-1] != '\n' {
			var rest []byte
			if rest, err = in.ReadBytes('\n'); errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			buf = append(buf, rest...)
		}
		if len(buf) > 0 {
			if f.format == "" {
				f.format = detect(buf)
			}
			emit(&block{data: buf, format: f.format, first: line, result: make(chan []Problem, 1)})
			line += bytes.Count(buf, []byte{'\n'})
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// detect returns the format of the first row that has one.
func detect(lines []byte) string {
	for line := range bytes.Lines(lines) {
		if row, err := parseRow(trimLine(line)); err == nil {
			if format := formatOf(row); format != "" {
				return format
			}
		}
	}
	return ""
}

// byteOrderMark starts files that some editors save. It is no part of a row.
var byteOrderMark = []byte("\uFEFF")

func trimLine(line []byte) []byte {
	return bytes.Trim(bytes.TrimPrefix(line, byteOrderMark), " \t\r\n")
}

func (b *block) judge(path string) []Problem {
	var found []Problem
	n := b.first - 1
	for raw := range bytes.Lines(b.data) {
		n++
		line := trimLine(raw)
		if len(line) == 0 {
			b.blanks = append(b.blanks, n)
			found = append(found, Problem{File: path, Line: n, Text: "is empty and was skipped"})
			continue
		}
		text, malformed := judgeLine(line, b.format)
		if text != "" {
			found = append(found, Problem{File: path, Line: n, Text: text, Malformed: malformed})
		}
		if !malformed {
			b.rows++
		}
	}
	return found
}

func judgeLine(line []byte, format string) (text string, malformed bool) {
	row, err := parseRow(line)
	if err != nil {
		return err.Error(), true
	}
	if format == "" {
		return `has none of "text", "prompt" with "completion", or "messages"`, true
	}
	if err := checkRow(row, format); err != nil {
		return err.Error(), true
	}
	if other := formatOf(row); other != format {
		return fmt.Sprintf("fits both %s and %s; it is read as %s, like the first row", format, other, format), false
	}
	return "", false
}

// lines calls each with every usable row and its line number, in order, and
// fails if the file is no longer the one that was inspected.
func (f *file) lines(each func(n int, row []byte) error) error {
	in, err := os.Open(f.path)
	if err != nil {
		return fmt.Errorf("read data: %w", err)
	}
	defer in.Close()
	sum := sha256.New()
	buf := bufio.NewReaderSize(io.TeeReader(in, sum), blockBytes)
	for n := 1; ; n++ {
		raw, err := buf.ReadBytes('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("read data: %w", err)
		}
		if line := trimLine(raw); len(line) > 0 && !f.skip[n] {
			if err := each(n, line); err != nil {
				return err
			}
		}
		if err != nil {
			break
		}
	}
	if sumOf(sum) != f.sum {
		return &Error{Path: f.path, Text: "changed while it was read", Fix: "start again when it is complete"}
	}
	return nil
}

func sumOf(h hash.Hash) (sum [sha256.Size]byte) {
	h.Sum(sum[:0])
	return sum
}
