package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/mlxdyno/mlxdyno/mlxbind"
	"github.com/mlxdyno/mlxdyno/mlxbind/install"
	"github.com/mlxdyno/mlxdyno/probe/model"
	"github.com/mlxdyno/mlxdyno/report"
	"github.com/mlxdyno/mlxdyno/trainer/native/decoder"
	"github.com/spf13/cobra"
)

// fuseJob is what a worker is asked to merge, fuseAnswer what it says.
type (
	fuseJob struct {
		Shim, BLAS         string
		Model, Adapter, To string
		Dequantize         bool
	}
	fuseAnswer struct {
		Fused *decoder.Fused `json:"fused"`
		Error *userError     `json:"error"`
	}
)

func (a *app) fuseCommand() *cobra.Command {
	var job fuseJob
	cmd := &cobra.Command{
		Use:   "fuse",
		Short: "Merge an adapter into its model, as a model of its own",
		Long: strings.TrimSpace(`
Writes a copy of the model with the adapter merged into its weights, which then
needs no adapter and no mlxdyno. The arithmetic is mlx_lm.fuse's, bit for bit; files
of weights pass through memory one at a time. The directory appears complete or
not at all, and nothing is overwritten.

A quantized model is quantized again after merging, which rounds away some of what
the adapter learned; --dequantize leaves it unpacked.`),
		Example: "  mlxdyno fuse --model ./Llama-3.2-1B --adapter-path ./adapter --save-path ./my-model",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			began := time.Now()
			fused, err := a.fuse(cmd.Context(), &job)
			if err != nil {
				return err
			}
			doc := report.FuseDocument{Schema: report.FuseSchema, Model: job.Model, Adapter: job.Adapter, Path: fused.Path, Modules: fused.Modules,
				Files: fused.Files, Bytes: fused.Bytes, DType: fused.DType, Bits: fused.Bits, Seconds: time.Since(began).Seconds(), Notes: fused.Notes}
			return a.print(doc, func() error { return report.Fuse(a.stdout, doc, a.style(), pythonWithMLXLM()) })
		},
	}
	f := cmd.Flags()
	f.StringVar(&job.Model, "model", "", "the base: a `DIR`, or the hub's name of a downloaded model")
	f.StringVar(&job.Adapter, "adapter-path", "", "`DIR` of the adapter, from mlxdyno or mlx-lm")
	f.StringVar(&job.To, "save-path", "", "`DIR` of the new model; not there yet, or empty")
	f.BoolVar(&job.Dequantize, "dequantize", false, "leave the new model unquantized")
	for _, name := range []string{"model", "adapter-path", "save-path"} {
		_ = cmd.MarkFlagRequired(name)
		_ = cmd.MarkFlagDirname(name)
	}
	return cmd
}

// fuse has a worker merge: MLX may crash, and this process must not.
func (a *app) fuse(ctx context.Context, job *fuseJob) (*decoder.Fused, error) {
	home, err := install.Home()
	if err != nil {
		return nil, err
	}
	env, err := install.Find(home)
	if err != nil {
		return nil, err
	}
	if job.Model, err = model.Resolve(job.Model); err != nil {
		return nil, err
	}
	job.Shim, job.BLAS = env.Shim, env.BLASLibrary
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program, which merges: %w", err)
	}
	a.progress("merging %s into %s", job.Adapter, job.Model)
	text, err := json.Marshal(job)
	if err != nil {
		return nil, err
	}
	answers, theirs, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer answers.Close()
	defer theirs.Close()
	var log bytes.Buffer // of a process that says little
	cmd := exec.CommandContext(ctx, self, "worker", "fuse")
	cmd.Env, cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = env.Environ(), &log, &log, []*os.File{theirs}
	in, err := cmd.StdinPipe() // stays open: its end tells the worker that nobody waits
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start worker: %w", err)
	}
	theirs.Close()
	_, _ = in.Write(append(text, '\n')) // a worker that is gone answers nothing, which is seen below
	var answer fuseAnswer
	said := json.NewDecoder(answers).Decode(&answer)
	ended := cmd.Wait()
	switch {
	case said == nil && answer.Error != nil:
		return nil, answer.Error
	case said == nil && answer.Fused != nil && ended == nil:
		return answer.Fused, nil
	}
	_ = os.RemoveAll(decoder.Making(job.To, cmd.Process.Pid))
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return nil, &userError{Code: "fuse.crashed", Message: fmt.Sprintf("the process that merges ended without an answer: %v: %s", ended, lastLines(log.String(), 5)), Status: statusOurs,
		Hint: "if it was killed, the machine may have run out of memory; --verbose and the system's log may tell"}
}

// lastLines is the end of a log.
func lastLines(text string, n int) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], " | ")
}

// fuseWorkerCommand is the process that fuse starts.
func fuseWorkerCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "fuse",
		Short:  "Merge an adapter, by a job that comes on standard input",
		Hidden: true,
		Args:   cobra.NoArgs,
		Run: func(*cobra.Command, []string) {
			syscall.CloseOnExec(3) // a compiler that MLX starts must not hold it
			os.Exit(fuseWork(os.Stdin, os.NewFile(3, "answer")))
		},
	}
}

func fuseWork(in io.Reader, out io.Writer) int {
	var job fuseJob
	if err := json.NewDecoder(in).Decode(&job); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return statusOurs
	}
	go func() {
		_, _ = io.Copy(io.Discard, in) // until the parent is gone
		_ = os.RemoveAll(decoder.Making(job.To, os.Getpid()))
		os.Exit(statusOurs)
	}()
	fused, err := fuseNow(job)
	answer, status := fuseAnswer{Fused: &fused}, statusOK
	if err != nil {
		answer, status = fuseAnswer{Error: explainFuse(err)}, statusOurs
	}
	if err := json.NewEncoder(out).Encode(answer); err != nil {
		return statusOurs
	}
	return status
}

func fuseNow(job fuseJob) (fused decoder.Fused, err error) {
	facts, err := model.Read(job.Model)
	if err != nil {
		return fused, err
	}
	spec, err := decoder.ReadSpec(facts)
	if err != nil {
		return fused, err
	}
	rt, err := mlxbind.Open(mlxbind.Options{Shim: job.Shim, BLAS: job.BLAS})
	if err != nil {
		return fused, err
	}
	err = rt.Do(context.Background(), func(s *mlxbind.Scope) error {
		fused, err = decoder.Fuse(s, facts, spec, decoder.Fusion{Adapter: job.Adapter, To: job.To, Dequantize: job.Dequantize})
		return err
	})
	return fused, err
}

// explainFuse turns an error into what a person sees.
func explainFuse(err error) *userError {
	var (
		not     *decoder.Unsupported
		adapter *decoder.AdapterError
		weights *decoder.WeightsError
		taken   *decoder.TakenError
	)
	switch {
	case errors.As(err, &not):
		return &userError{Code: "fuse.unsupported", Message: "mlxdyno cannot merge " + not.Reason, Hint: "python -m mlx_lm fuse may", Status: statusOurs}
	case errors.As(err, &adapter):
		return &userError{Code: "fuse.adapter", Message: adapter.Error(), Hint: "name the model that the adapter was trained on, or another adapter", Status: statusOurs}
	case errors.As(err, &weights):
		return &userError{Code: "model.weights-mismatch", Message: weights.Error(), Hint: "download the model again, for instance with `hf download NAME --local-dir DIR`", Status: statusOurs}
	case errors.As(err, &taken):
		return &userError{Code: "usage", Message: "--save-path: " + taken.Error(), Hint: "name a directory that is not there yet", Status: statusOurs}
	}
	return explain(context.Background(), err, true)
}
