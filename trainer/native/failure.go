package native

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/mlxdyno/mlxdyno/mlxbind"
	"github.com/mlxdyno/mlxdyno/probe/model"
	"github.com/mlxdyno/mlxdyno/trainer"
	"github.com/mlxdyno/mlxdyno/trainer/native/decoder"
)

// failure ends a job with words for a person.
type failure struct{ trainer.Failure }

func (f *failure) Error() string { return f.Text }

func fail(kind trainer.FailKind, code, hint, format string, args ...any) error {
	return &failure{trainer.Failure{FailKind: kind, Code: code, Text: fmt.Sprintf(format, args...), Hint: hint}}
}

// lessMemory is advice on steps that need too much.
func lessMemory(c trainer.Config) string {
	again := "turn on --grad-checkpoint, "
	if c.Plan.Checkpointing {
		again = ""
	}
	return "lower --batch-size or --max-seq-length, " + again + "or quantize the base"
}

// What MLX says when memory runs out. The first that fits counts.
var memoryWords = []struct {
	pattern          *regexp.Regexp
	code, text, hint string
}{
	{regexp.MustCompile(`Resource limit \(\d+\) exceeded`), "oom.resource-limit", "MLX holds more buffers than the system allows",
		"use fewer distinct batch shapes (--group-by-length), or --reload-interval to restart the worker now and then"},
	{regexp.MustCompile(`greater than the maximum allowed buffer size`), "oom.buffer-size", "one array is larger than the GPU allows", ""},
	{regexp.MustCompile(`(?i)kIOGPUCommandBufferCallbackErrorOutOfMemory|Insufficient Memory|cudaErrorMemoryAllocation` +
		`|CUDA_ERROR_OUT_OF_MEMORY|out of memory|Unable to allocate|Failed to allocate|std::bad_alloc`), "oom", "the device ran out of memory", ""},
}

const otherEngine = "use --engine " + trainer.EngineMLXLM

// describe says in the protocol's words why a job could not go on.
func describe(err error, c trainer.Config) trainer.Failure {
	f := words(err, c)
	if f.Detail == "" {
		f.Detail = err.Error()
	}
	return f
}

func words(err error, c trainer.Config) trainer.Failure {
	var (
		known  *failure
		mlx    *mlxbind.Error
		files  *model.Error
		not    *decoder.Unsupported
		wrong  *decoder.WeightsError
		misfit *decoder.MisfitError
		panics *mlxbind.PanicError
	)
	detail := ""
	switch {
	case errors.As(err, &known):
		return known.Failure
	case errors.As(err, &mlx):
		for _, w := range memoryWords {
			if w.pattern.MatchString(mlx.Text) {
				hint := w.hint
				if hint == "" {
					hint = lessMemory(c)
				}
				return trainer.Failure{FailKind: trainer.FailOOM, Code: w.code, Text: w.text + ": " + oneLine(mlx.Text), Hint: hint}
			}
		}
	case errors.As(err, &files):
		return trainer.Failure{FailKind: trainer.FailConfig, Code: files.Code, Text: strings.TrimPrefix(files.Path+": "+files.Text, ": "), Hint: files.Hint}
	case errors.As(err, &not):
		return trainer.Failure{FailKind: trainer.FailConfig, Code: "model.unsupported", Text: "the native engine cannot train " + not.Reason, Hint: otherEngine}
	case errors.As(err, &wrong):
		return trainer.Failure{FailKind: trainer.FailConfig, Code: "model.weights-mismatch", Text: wrong.Error(), Hint: "download the model again, for instance with `hf download NAME --local-dir DIR`"}
	case errors.As(err, &misfit):
		code, hint := "config.layers", "use --num-layers -1 for all of them"
		if misfit.What == "modules" {
			code, hint = "config.lora-modules", "choose --lora-modules among these, or drop it for all of them"
		}
		return trainer.Failure{FailKind: trainer.FailConfig, Code: code, Text: misfit.Text, Hint: hint}
	case errors.Is(err, decoder.ErrQuantized):
		return trainer.Failure{FailKind: trainer.FailConfig, Code: "config.already-quantized", Text: err.Error() + ", it cannot be quantized at load", Hint: "drop --quantize, or give --model the original weights"}
	case errors.As(err, &panics):
		detail = string(panics.Stack)
	}
	return trainer.Failure{FailKind: trainer.FailInternal, Code: "internal", Text: oneLine(err.Error()), Hint: "the worker's log has the details; " + otherEngine + " may go on meanwhile", Detail: detail}
}

func oneLine(s string) string {
	s = strings.Join(strings.Fields(s), " ")
	if len(s) > 300 {
		s = strings.ToValidUTF8(s[:300], "") + "…"
	}
	return s
}
