package redact

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"strings"
	"unicode"
)

// Sequences of so many words of the training text are taken out wherever they
// occur. Rows with fewer words are taken out as a whole, single words are not.
const (
	shingleWords = 5
	fewestWords  = 2
)

// word is one in a text: a run of letters and digits, or one character of a
// script that puts no blanks between words.
type word struct {
	text       string // in lower case
	start, end int
}

func words(s string) []word {
	var out []word
	start := -1
	end := func(at int) {
		if start >= 0 {
			out = append(out, word{strings.ToLower(s[start:at]), start, at})
		}
		start = -1
	}
	for i, c := range s {
		switch {
		case unicode.In(c, unicode.Han, unicode.Hiragana, unicode.Katakana, unicode.Thai):
			end(i)
			out = append(out, word{string(c), i, i + len(string(c))})
		case unicode.IsLetter(c) || unicode.IsDigit(c) || unicode.IsMark(c):
			if start < 0 {
				start = i
			}
		default:
			end(i)
		}
	}
	end(len(s))
	return out
}

func key(w []word) string {
	var b strings.Builder
	for i := range w {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(w[i].text)
	}
	return b.String()
}

// Learn makes the redactor know which parts of texts come from data, lines of
// JSON. It holds as much as texts are long, however much data there is.
func (r *Redactor) Learn(data io.Reader, texts ...string) error {
	wanted := map[string]bool{}
	for _, t := range texts {
		w := words(t)
		for n := fewestWords; n <= shingleWords; n++ {
			for i := 0; i+n <= len(w); i++ {
				wanted[key(w[i:i+n])] = true
			}
		}
	}
	if r.text == nil {
		r.text = map[string]bool{}
	}
	in := bufio.NewReaderSize(data, 1<<20)
	for {
		line, err := in.ReadBytes('\n')
		for _, s := range stringsIn(line) {
			w := words(s)
			if n := len(w); n >= fewestWords && n < shingleWords {
				r.learn(key(w), wanted)
			}
			for i := 0; i+shingleWords <= len(w); i++ {
				r.learn(key(w[i:i+shingleWords]), wanted)
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (r *Redactor) learn(k string, wanted map[string]bool) {
	if wanted[k] {
		r.text[k] = true
	}
}

// withoutText replaces what comes from the training text.
func (r *Redactor) withoutText(s string) string {
	if len(r.text) == 0 {
		return s
	}
	w := words(s)
	taken := make([]bool, len(w))
	for n := fewestWords; n <= shingleWords; n++ {
		for i := 0; i+n <= len(w); i++ {
			if r.text[key(w[i:i+n])] {
				for j := i; j < i+n; j++ {
					taken[j] = true
				}
			}
		}
	}
	var b strings.Builder
	at := 0
	for i := 0; i < len(w); i++ {
		if !taken[i] {
			continue
		}
		b.WriteString(s[at:w[i].start])
		for i+1 < len(w) && taken[i+1] && !strings.Contains(s[w[i].end:w[i+1].start], "\n") {
			i++
		}
		b.WriteString("[text]")
		at = w[i].end
	}
	return b.String() + s[at:]
}

// stringsIn returns the strings in a line of JSON, or all of it when it is none.
func stringsIn(line []byte) []string {
	line = bytes.TrimSpace(line)
	if len(line) == 0 {
		return nil
	}
	var v any
	if json.Unmarshal(line, &v) != nil {
		return []string{string(line)}
	}
	var out []string
	var walk func(any)
	walk = func(v any) {
		switch v := v.(type) {
		case string:
			out = append(out, v)
		case []any:
			for _, e := range v {
				walk(e)
			}
		case map[string]any:
			for _, e := range v {
				walk(e)
			}
		}
	}
	walk(v)
	return out
}
