// Package journal keeps what must not be forgotten: an append-only file of JSON
// records, one a line, each on the disk before Append returns.
//
//	{"kind":"segment","at":"2026-01-02T15:04:05.000000001Z","data":{…}}
//
// A crash can leave a torn last line. It was never acknowledged, so readers
// pass over it and Open cuts it off. Damage anywhere else loses records and is
// a *DamagedError: nothing is guessed and nothing is skipped.
//
// A journal has one writer, who is responsible for being the only one; package
// journal takes no lock. Readers need none, also while it is being written.
package journal

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

// MaxRecord is the longest line of a journal, in bytes.
const MaxRecord = 16 << 20

// Record is one line of a journal.
type Record struct {
	Kind string          `json:"kind"`
	At   time.Time       `json:"at"`
	Data json.RawMessage `json:"data"`
}

// DamagedError tells of a line that is no record although others follow it.
type DamagedError struct {
	Path   string
	Line   int // counted from 1
	Reason string
}

func (e *DamagedError) Error() string {
	return fmt.Sprintf("journal %s is damaged in line %d: %s; restore the file from a copy, or move it away to start over", e.Path, e.Line, e.Reason)
}

// Journal is a journal open for appending. It is not safe for concurrent use.
type Journal struct {
	file  *os.File
	size  int64 // where the acknowledged records end
	dirty bool  // something unacknowledged may lie behind size
	now   func() time.Time
}

// Open opens the journal at path for appending, or creates it. A torn last
// line is cut off.
func Open(path string) (*Journal, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open journal: %w", err)
	}
	j := &Journal{file: f, now: time.Now}
	if err := j.recover(path); err != nil {
		f.Close()
		return nil, err
	}
	return j, nil
}

func (j *Journal) recover(path string) error {
	end, err := scan(j.file, path, func(Record) error { return nil })
	if err != nil {
		return err
	}
	info, err := j.file.Stat()
	if err != nil {
		return fmt.Errorf("open journal: %w", err)
	}
	j.size, j.dirty = end, info.Size() != end
	if err := j.cut(); err != nil {
		return fmt.Errorf("cut off the torn last line of journal %s: %w", path, err)
	}
	if end == 0 { // perhaps just created: its name must survive, too
		if err := syncDir(filepath.Dir(path)); err != nil {
			return fmt.Errorf("open journal: %w", err)
		}
	}
	return nil
}

// Append adds a record and returns when it is on the disk. After an error the
// record is not in the journal, and the journal is as it was: Append may be
// tried again.
func (j *Journal) Append(kind string, v any) error {
	if kind == "" {
		return errors.New("append to journal: the record has no kind")
	}
	data, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("append %s to journal: %w", kind, err)
	}
	line, err := json.Marshal(Record{Kind: kind, At: j.now().UTC(), Data: data})
	if err != nil {
		return fmt.Errorf("append %s to journal: %w", kind, err)
	}
	line = append(line, '\n')
	if len(line) > MaxRecord {
		return fmt.Errorf("append %s to journal: %d bytes, more than the limit of %d", kind, len(line), MaxRecord)
	}
	if err := j.write(line); err != nil {
		return fmt.Errorf("append %s to journal: %w", kind, err)
	}
	return nil
}

func (j *Journal) write(line []byte) error {
	if err := j.cut(); err != nil {
		return err
	}
	j.dirty = true
	_, err := j.file.Write(line)
	if err == nil {
		err = j.file.Sync()
	}
	if err != nil {
		// Should this fail as well, the next Append tries again first.
		return errors.Join(err, j.cut())
	}
	j.dirty = false
	j.size += int64(len(line))
	return nil
}

// cut removes what lies behind the acknowledged records.
func (j *Journal) cut() error {
	if !j.dirty {
		return nil
	}
	if err := j.file.Truncate(j.size); err != nil {
		return err
	}
	if err := j.file.Sync(); err != nil {
		return err
	}
	j.dirty = false
	return nil
}

// Close closes the journal. All its records are on the disk already.
func (j *Journal) Close() error {
	if err := j.file.Close(); err != nil {
		return fmt.Errorf("close journal: %w", err)
	}
	return nil
}

// Read calls each with every record of the journal at path, in order, and stops
// at its first error. A torn last line is passed over.
func Read(path string, each func(Record) error) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("read journal: %w", err)
	}
	defer f.Close()
	_, err = scan(f, path, each)
	return err
}

// scan calls each with every record and returns where the last one ends.
//
// The last line counts as torn when it is no record even though it ends in a
// newline: after a power failure the file system may have kept the length of an
// unacknowledged write and not all of its bytes.
func scan(r io.Reader, path string, each func(Record) error) (end int64, err error) {
	in := bufio.NewReaderSize(r, 64<<10)
	for n := 1; ; n++ {
		line, err := readLine(in)
		switch {
		case errors.Is(err, io.EOF):
			return end, nil // with or without a torn line
		case errors.Is(err, errTooLong):
			return end, &DamagedError{Path: path, Line: n, Reason: err.Error()}
		case err != nil:
			return end, fmt.Errorf("read journal: %w", err)
		}
		rec, err := parse(line)
		if err != nil {
			if _, last := in.Peek(1); errors.Is(last, io.EOF) {
				return end, nil
			}
			return end, &DamagedError{Path: path, Line: n, Reason: err.Error()}
		}
		if err := each(rec); err != nil {
			return end, err
		}
		end += int64(len(line))
	}
}

var errTooLong = fmt.Errorf("longer than %d bytes", MaxRecord)

// readLine returns the next line with its newline; io.EOF when none is left
// that has one.
func readLine(in *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, err := in.ReadSlice('\n')
		if len(line)+len(part) > MaxRecord {
			return nil, errTooLong
		}
		line = append(line, part...)
		if err == nil || !errors.Is(err, bufio.ErrBufferFull) {
			return line, err
		}
	}
}

func parse(line []byte) (Record, error) {
	var rec Record
	if bytes.IndexByte(line, 0) >= 0 {
		return rec, errors.New("zero bytes, as a power failure leaves them")
	}
	if err := json.Unmarshal(line, &rec); err != nil {
		return rec, fmt.Errorf("not a record: %w", err)
	}
	if rec.Kind == "" {
		return rec, errors.New("not a record: it has no kind")
	}
	return rec, nil
}

// syncDir makes the names in a directory durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("sync directory: %w", err)
	}
	return nil
}
