package wire

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/mlxdyno/mlxdyno/trainer"
)

// Names of commands.
const (
	CommandJob  = "job"
	CommandStop = "stop"
)

// Command is what a worker is told. A worker ignores names that it does not know.
type Command struct {
	Name       string
	Job        trainer.Job // of CommandJob
	Checkpoint bool        // of CommandStop: save before leaving
}

type commandLine struct {
	Command    string   `json:"command"`
	Job        *jobLine `json:"job,omitempty"`
	Checkpoint bool     `json:"checkpoint,omitempty"`
}

type jobLine struct {
	trainer.Job
	BudgetMS int64 `json:"budget_ms"`
}

// EncodeJob returns the line that gives a worker its job. A budget under a
// millisecond counts as one: 0 would mean no limit.
func EncodeJob(job trainer.Job) ([]byte, error) {
	ms := job.Budget.Round(time.Millisecond).Milliseconds()
	if job.Budget > 0 {
		ms = max(ms, 1)
	}
	line, err := marshalLine(commandLine{Command: CommandJob, Job: &jobLine{Job: job, BudgetMS: ms}})
	if err != nil {
		return nil, fmt.Errorf("encode job: %w", err)
	}
	return line, nil
}

// EncodeStop returns the line that asks a worker to leave at the next step
// boundary, after writing a checkpoint when that is asked for.
func EncodeStop(checkpoint bool) []byte {
	return fmt.Appendf(nil, `{"command":%q,"checkpoint":%t}`+"\n", CommandStop, checkpoint)
}

// DecodeCommand reads one line that a worker got, for workers written in Go.
func DecodeCommand(line []byte) (Command, error) {
	var w commandLine
	if err := json.Unmarshal(line, &w); err != nil {
		return Command{}, fmt.Errorf("decode command: %w", err)
	}
	c := Command{Name: w.Command, Checkpoint: w.Checkpoint}
	switch {
	case w.Command == "":
		return Command{}, errors.New("decode command: it has no name")
	case w.Command != CommandJob:
		return c, nil
	case w.Job == nil:
		return Command{}, errors.New("decode command: a job command without a job")
	case w.Job.BudgetMS < 0 || w.Job.BudgetMS > math.MaxInt64/int64(time.Millisecond):
		return Command{}, fmt.Errorf("decode command: a budget of %d milliseconds", w.Job.BudgetMS)
	}
	c.Job = w.Job.Job
	c.Job.Budget = time.Duration(w.Job.BudgetMS) * time.Millisecond
	return c, nil
}
