package command

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"
	"unicode/utf8"
)

// LogOptions say how a log is read. The zero value is for use.
type LogOptions struct {
	Adapters  []Adapter           // to pick from; default Adapters()
	OnReading func(Reading) error // gets every reading; its error ends the reading
	Poll      time.Duration       // how often a followed log is looked at; default 250 ms
}

// LogReport is what a log says.
type LogReport struct {
	Detected     Detected
	Lines        LineStats
	Observations Observations
	Notes        []string // what befell the log, in sentences
}

const maxNotes = 50

func (r *LogReport) note(format string, args ...any) {
	if len(r.Notes) < maxNotes {
		r.Notes = append(r.Notes, fmt.Sprintf(format, args...))
	}
}

// FollowLog reads the log at path. When follow is set it goes on until ctx is
// cancelled, which is no error then, also over a file that is replaced, cut or
// missing for a while. The report is as full as it can be beside an error.
func FollowLog(ctx context.Context, path string, follow bool, o LogOptions) (LogReport, error) {
	if o.Adapters == nil {
		o.Adapters = Adapters()
	}
	if o.Poll <= 0 {
		o.Poll = 250 * time.Millisecond
	}
	var report LogReport
	src, err := openLog(path)
	if err != nil {
		return report, err
	}
	src.ctx, src.follow, src.poll, src.note = ctx, follow, o.Poll, report.note
	defer src.close()

	detector := NewDetector(o.Adapters...)
	take := func(readings []Reading) error {
		for _, r := range readings {
			report.Observations.Add(r)
			if o.OnReading != nil {
				if err := o.OnReading(r); err != nil {
					return err
				}
			}
		}
		return nil
	}
	lines := NewLines(src)
	src.restarted = lines.Drop
	for err == nil {
		var line Line
		if line, err = lines.Next(); err == nil {
			err = take(detector.Parse(line))
		}
	}
	if cancelled := ctx.Err() != nil && errors.Is(err, ctx.Err()); errors.Is(err, io.EOF) || follow && cancelled {
		err = nil
	}
	if err == nil {
		err = take(detector.Finish())
	}
	report.Observations.Close()
	report.Detected, report.Lines = detector.Detected(), lines.Stats()
	report.remark()
	if err != nil {
		return report, fmt.Errorf("read log %s: %w", path, err)
	}
	return report, nil
}

// remark notes what a reader of the report should know about the text.
func (r *LogReport) remark() {
	if r.Lines.Bytes == 0 {
		r.note("the log is empty: nothing was printed yet")
	}
	if n := r.Lines.TooLong; n > 0 {
		r.note("%s longer than %d bytes left out", lines(int(n)), MaxLine)
	}
	if n := r.Lines.Binary; n > 0 {
		r.note("%s with zero bytes left out", lines(int(n)))
	}
	if n := r.Lines.Invalid; n > 0 {
		r.note("%s with bytes that are no UTF-8", lines(int(n)))
	}
}

// logSource reads a file that others write to, replace and cut.
type logSource struct {
	ctx       context.Context
	path      string
	file      *os.File // nil while the file is missing
	info      fs.FileInfo
	offset    int64
	head      []byte // the first bytes, which tell a file that was cut and has grown again
	follow    bool
	poll      time.Duration
	missing   bool
	note      func(format string, args ...any)
	restarted func() // called when what comes next does not go on from before
}

const headBytes = 256

// openLog opens a log and refuses what is none, in words.
func openLog(path string) (*logSource, error) {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("read log %s: there is no such file", path)
	case err != nil:
		return nil, fmt.Errorf("read log: %w", err)
	case info.IsDir():
		return nil, fmt.Errorf("read log %s: it is a directory; name the file in it", path)
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("read log %s: it is no plain file; write the output to one first (… 2>&1 | tee train.log)", path)
	}
	s := &logSource{path: path}
	if err := s.open(); err != nil {
		return nil, fmt.Errorf("read log: %w", err)
	}
	start := make([]byte, 8<<10)
	n, err := s.file.ReadAt(start, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		s.close()
		return nil, fmt.Errorf("read log %s: %w", path, err)
	}
	if why := notText(start[:n]); why != "" {
		s.close()
		return nil, fmt.Errorf("read log %s: %s", path, why)
	}
	return s, nil
}

// notText says why the beginning of a file is not that of a log.
func notText(b []byte) string {
	for _, k := range []struct{ magic, why string }{
		{"\x1f\x8b", "it is compressed (gzip); unpack it first: gunzip"},
		{"\x28\xb5\x2f\xfd", "it is compressed (zstd); unpack it first: unzstd"},
		{"\xfd7zXZ\x00", "it is compressed (xz); unpack it first: unxz"},
		{"PK\x03\x04", "it is a zip archive; unpack it first"},
		{"\xff\xfe", "it is UTF-16; convert it first: iconv -f UTF-16 -t UTF-8"},
		{"\xfe\xff", "it is UTF-16; convert it first: iconv -f UTF-16 -t UTF-8"},
	} {
		if bytes.HasPrefix(b, []byte(k.magic)) {
			return k.why
		}
	}
	strange := 0
	for rest := b; len(rest) > 0; {
		r, n := utf8.DecodeRune(rest)
		if r == utf8.RuneError && n == 1 && len(rest) >= utf8.UTFMax || r == 0 {
			strange++
		}
		rest = rest[n:]
	}
	if strange > len(b)/10 {
		return "it is binary, not the text that a trainer prints"
	}
	return ""
}

func (s *logSource) open() error {
	f, err := os.Open(s.path)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return err
	}
	s.file, s.info, s.offset, s.head = f, info, 0, nil
	return nil
}

func (s *logSource) close() {
	if s.file != nil {
		s.file.Close()
		s.file = nil
	}
}

// Read returns io.EOF only when nobody follows.
func (s *logSource) Read(b []byte) (int, error) {
	for {
		if err := s.ctx.Err(); err != nil {
			return 0, err
		}
		if s.file != nil {
			n, err := s.file.ReadAt(b, s.offset)
			if n > 0 {
				return s.got(b, n), nil
			}
			if err != nil && !errors.Is(err, io.EOF) {
				return 0, err
			}
		}
		if !s.follow {
			return 0, io.EOF
		}
		if moved, err := s.look(); err != nil {
			return 0, err
		} else if moved {
			continue
		}
		timer := time.NewTimer(s.poll)
		select {
		case <-s.ctx.Done():
			timer.Stop()
			return 0, s.ctx.Err()
		case <-timer.C:
		}
	}
}

// got takes n bytes in and drops a byte order mark.
func (s *logSource) got(b []byte, n int) int {
	if missing := headBytes - len(s.head); missing > 0 && s.offset == int64(len(s.head)) {
		s.head = append(s.head, b[:min(n, missing)]...)
	}
	first := s.offset == 0
	s.offset += int64(n)
	if mark := []byte("\ufeff"); first && bytes.HasPrefix(b[:n], mark) {
		return copy(b, b[len(mark):n])
	}
	return n
}

// look compares the open file with what is at the path, at its end. It reports
// whether reading should go on at once.
func (s *logSource) look() (bool, error) {
	now, err := os.Stat(s.path)
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			return false, err
		}
		if !s.missing {
			s.missing = true
			s.note("the log disappeared after %d bytes; waiting for it to come back", s.offset)
		}
		return false, nil
	}
	if s.file != nil && !os.SameFile(now, s.info) {
		if old, err := s.file.Stat(); err == nil && old.Size() > s.offset {
			return true, nil // whoever writes still has the old one open
		}
	}
	if s.file == nil || !os.SameFile(now, s.info) {
		s.close()
		if err := s.open(); err != nil {
			if errors.Is(err, fs.ErrNotExist) {
				return false, nil
			}
			return false, err
		}
		s.missing = false
		s.note("the log was replaced by another file, which is read from its start")
		s.restarted()
		return true, nil
	}
	s.missing = false
	if now.Size() < s.offset || !s.sameHead() {
		s.note("the log was cut at %d bytes and is read from its start again", s.offset)
		s.offset, s.head = 0, nil
		s.restarted()
		return true, nil
	}
	return now.Size() > s.offset, nil
}

// sameHead reports whether the file still begins as it did.
func (s *logSource) sameHead() bool {
	head := make([]byte, len(s.head))
	n, err := s.file.ReadAt(head, 0)
	return err == nil && n == len(head) && bytes.Equal(head, s.head) || len(head) == 0
}
