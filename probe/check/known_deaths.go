package check

import (
	"strconv"
	"strings"

	"github.com/mlxdyno/mlxdyno/probe"
)

// knownDeath is a death that can be told by its last words.
type knownDeath struct {
	words string // in the log or in the trainer's own error
	title string
	why   string
	fix   func(Input) []probe.Fix
}

var knownDeaths = []knownDeath{
	{"Resource limit (", "Trial steps used up the GPU's buffers",
		"MLX keeps what it compiled for every batch shape, and the system allows only so many live buffers (mlx #4464); fewer bytes do not help, and neither does clearing the cache",
		func(in Input) []probe.Fix {
			return []probe.Fix{
				{Text: "Train in fewer shapes", Command: Command("doctor", in.Settings, Change{"group-by-length", "true"}, Change{"max-shapes", "8"})},
				{Text: "Restart the worker process in time", Command: Command("doctor", in.Settings, Change{"reload-interval", strconv.Itoa(max(in.config().Schedule.SaveEvery, 1))})},
			}
		}},
	{"Impacting Interactivity", "macOS's display watchdog ended the work on the GPU",
		"one piece of work kept the GPU from drawing for too long (mlx #3267)",
		func(in Input) []probe.Fix {
			fixes := []probe.Fix{{Text: "Let the display sleep while training, which is reliable", Command: "pmset displaysleepnow"},
				{Text: "Start the training with the environment variable AGX_RELAX_CDM_CTXSTORE_TIMEOUT=1, which helps some"}}
			return append(fixes, in.smallerSteps()...)
		}},
	{"There is no Stream(", "MLX was used from several threads", "since MLX 0.31.2 an array can only be computed on the thread that made it; this is a defect of the trainer",
		func(Input) []probe.Fix {
			return []probe.Fix{{Text: "Report it; in a trainer of your own, let one thread make every call of MLX"}}
		}},
	{"maximum allowed buffer size", "One array is larger than a GPU buffer may be", "a single array passes the largest buffer that Metal gives out; logits of a wide batch do that first",
		Input.smallerSteps},
}

// smallerSteps proposes smaller pieces of work.
func (in Input) smallerSteps() []probe.Fix {
	c := in.config()
	if c.Plan.Batch == 1 {
		return []probe.Fix{{Text: "Make pieces smaller: a shorter --max-seq-length, or --grad-checkpoint"}}
	}
	return []probe.Fix{{Text: "Make pieces smaller, with the same effective batch",
		Command: Command("doctor", in.Settings, Change{"batch-size", "1"}, Change{"grad-accumulation-steps", itoa(c.EffectiveBatch())})}}
}

// recognise returns the known death whose words occur in one of the texts.
func recognise(texts ...string) (knownDeath, bool) {
	for _, k := range knownDeaths {
		for _, t := range texts {
			if strings.Contains(t, k.words) {
				return k, true
			}
		}
	}
	return knownDeath{}, false
}

func itoa(n int) string { return strconv.Itoa(n) }
