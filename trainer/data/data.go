// Package data turns JSON lines into token files and says exactly how long
// every row is and which batches mlx-lm makes of them.
//
// Text comes in mlx-lm's three formats: {"text"}, {"prompt", "completion"} and
// {"messages"}, the latter two optionally with "tools". Inspect judges every
// line without Python. Prepare has the rows tokenized once, by mlx-lm's own
// dataset classes in the Python environment that will train, and keeps the
// tokens in a cache under the hash of everything that decides them. PlanBatches
// repeats mlx-lm's batching on the lengths alone, Generator its order of them;
// Rows, Epochs, Exact, Validation and Stream give a trainer what mlx-lm's would
// read. A Batching may differ from mlx-lm's in two ways that never change which
// rows share a batch: fewer widths, or no padding at all.
//
// Note: lines are read and judged in Go only; Python gets rows, not files. So a
// malformed line costs one row and a message with its place, not the run.
package data

import (
	"fmt"
	"strings"

	"github.com/mlxdyno/mlxdyno/trainer"
)

// Splits in the order in which they are read.
const (
	Train = "train"
	Valid = "valid"
	Test  = "test"
)

// Formats of rows.
const (
	FormatCompletions = "completions"
	FormatChat        = "chat"
	FormatText        = "text"
)

// maxProblems is how many problems are kept with their text; all are counted.
const maxProblems = 20

// maxMalformedShare is the share of malformed rows above which a split is
// refused: such a file is not what its reader takes it for.
const maxMalformedShare = 0.01

// Problem is something to know about one line. A malformed one is left out of
// training; any other is used all the same.
type Problem struct {
	File      string `json:"file"`
	Line      int    `json:"line"` // from 1
	Text      string `json:"text"`
	Malformed bool   `json:"malformed"`
}

func (p Problem) String() string { return fmt.Sprintf("%s:%d: %s", p.File, p.Line, p.Text) }

// Error says what is wrong with the data (or with the tokenizer that should
// read it) and what to do.
type Error struct {
	Path string
	Line int // 0 when no single line is at fault
	Text string
	Fix  string
}

func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Path)
	if e.Line > 0 {
		fmt.Fprintf(&b, ":%d", e.Line)
	}
	b.WriteString(": " + e.Text)
	if e.Fix != "" {
		b.WriteString(": " + e.Fix)
	}
	return b.String()
}

// Set is text that has been tokenized.
type Set struct {
	Key       string    `json:"key"`    // hash of everything that decided the tokens
	Format    string    `json:"format"` // of the training split
	Train     *Split    `json:"-"`
	Valid     *Split    `json:"-"` // nil only when there are too few rows to hold any out
	Test      *Split    `json:"-"` // nil when there is none
	Malformed int       `json:"malformed"`
	Problems  []Problem `json:"problems,omitempty"` // the first maxProblems
	HeldOut   bool      `json:"held_out"`           // Valid was split off the training rows
}

// Tokens are the files that a worker reads.
func (s *Set) Tokens() trainer.TokenFiles {
	t := trainer.TokenFiles{Train: s.Train.Path}
	if s.Valid != nil {
		t.Valid = s.Valid.Path
	}
	return t
}

// Split is one token file. Rows are in the order of the text.
type Split struct {
	Path    string
	Lengths []int32 // tokens of each row
	Prompts []int32 // leading tokens of each row that are not supervised
}
