package command

import (
	"regexp"
	"strings"

	"github.com/mlxdyno/mlxdyno/trainer"
)

// YourAI reads what your_ai prints while it trains, its metrics file, and its
// debug log, apart or mixed.
func YourAI() Adapter {
	return Adapter{
		Name: "your_ai",
		Caveats: []string{
			"memory_gb of its metrics and rss_mb are the resident set, which misses GPU memory on a Mac",
			"its GB and MB may mean GiB and MiB; it does not say",
			"its steps/s has one decimal: take the speed from steps over elapsed time",
		},
		New: func() Parser { return yourAI{} },
	}
}

type yourAI struct{}

var (
	yourAIBar      = regexp.MustCompile(`^\[([^\]]{1,32})\].*?\s(\d+)/(\d+)(?:\s|$)`)
	yourAILoss     = regexp.MustCompile(`\bloss: ` + num + `(?: \(avg: ` + num + `\))?`)
	yourAIRate     = regexp.MustCompile(`\| lr: ` + num)
	yourAISpeed    = regexp.MustCompile(`\| ` + num + ` steps/s\b`)
	yourAIMemory   = regexp.MustCompile(`\| mem: ` + num + ` ([KMGT]i?B)`)
	yourAIAuto     = regexp.MustCompile(`No memory limit specified\. Auto-detected: ` + num + ` (\w+) \(\d+% of ` + num + ` (\w+) available\)`)
	yourAILimit    = regexp.MustCompile(`^MLX memory limit set: .*?(\d+)(?: bytes)? -> (\d+) bytes`)
	yourAIBaseline = regexp.MustCompile(`Baseline MLX memory at step (\d+): ` + num + ` (\w+)`)
	yourAILeak     = regexp.MustCompile(`Memory leak detected: ` + num + ` (\w+)/step`)
	yourAIVirtual  = regexp.MustCompile(`Virtual memory growth: ` + num + ` (\w+)/step`)
	yourAIReload   = regexp.MustCompile(`Reloading model from step (\d+) to reset MLX memory`)
	yourAIReloaded = regexp.MustCompile(`Current MLX memory after reload: ` + num + ` (\w+)`)
	yourAIOver     = regexp.MustCompile(`Memory usage exceeded limit: (.*?) > ` + num + ` (\w+)\. Training stopped`)
	yourAIDiverged = regexp.MustCompile(`Training diverged: loss is (\S+) at step (\d+)`)
	yourAISkipped  = regexp.MustCompile(`^Warning: Skipping tensor .* with unsupported dtype`)
)

func (p yourAI) Parse(line string) ([]Reading, Match) {
	if len(line) > objectBytes {
		return nil, NoMatch
	}
	if strings.HasPrefix(line, "{") {
		return p.object(line)
	}
	if strings.HasPrefix(line, "[") && strings.Contains(line, "/") {
		return p.bar(line)
	}
	return p.sentence(line)
}

// object reads a line of the metrics file or of the debug log.
func (yourAI) object(line string) ([]Reading, Match) {
	o, ok := parseObject(line)
	if !ok {
		return nil, NoMatch
	}
	metrics := o.has("step", "loss", "avg_loss", "elapsed_secs", "memory_gb")
	debug := o.has("mlx_active_mb", "rss_mb")
	if !metrics && !debug {
		return nil, NoMatch
	}
	r := o.reading()
	r.Phase = o.first("phase", "event", "stage")
	if len(r.Phase) > noticeText {
		r.Phase = ""
	}
	for i := range r.Memory {
		if r.Memory[i].Kind == SomeMemory {
			r.Memory[i].Kind = ResidentMemory // it is, whatever its key says
		}
	}
	return one(r, Signature)
}

// bar reads the progress bar, in which loss and what follows are missing at first.
func (yourAI) bar(line string) ([]Reading, Match) {
	m := yourAIBar.FindStringSubmatch(line)
	if m == nil || !strings.Contains(line, "ETA") {
		return nil, NoMatch
	}
	var r Reading
	r.stepsOf(m[2], m[3])
	if c, ok := clock(m[1]); ok {
		r.Elapsed = trainer.Some(c)
	}
	loss := yourAILoss.FindStringSubmatch(line)
	if loss == nil {
		return one(r, Plausible)
	}
	r.Loss, r.AverageLoss = optFloat(loss[1]), optFloat(loss[2])
	if m := yourAIRate.FindStringSubmatch(line); m != nil {
		r.LearningRate = optFloat(m[1])
	}
	if m := yourAISpeed.FindStringSubmatch(line); m != nil {
		r.StepsPerSecond = optRate(m[1])
		r.doubt(FieldStepsPerSecond, "printed with one decimal")
	}
	if m := yourAIMemory.FindStringSubmatch(line); m != nil {
		r.remember(SomeMemory, m[1], m[2])
	}
	return one(r, Signature)
}

func (r *Reading) remember(kind MemoryKind, value, unit string) {
	if m, ok := memory(kind, value, unit, false); ok {
		r.Memory = append(r.Memory, m)
	}
}

// sentence reads what is no progress and no metric.
func (yourAI) sentence(line string) ([]Reading, Match) {
	var r Reading
	say := func(level NoticeLevel, code string) { r.Notice = notice(level, "your_ai."+code, line) }
	find := func(re *regexp.Regexp) []string { return re.FindStringSubmatch(line) }
	var m []string
	switch {
	case !strings.Contains(line, "emory") && !strings.Contains(line, "Training diverged") && !strings.Contains(line, "Skipping tensor"):
		return nil, NoMatch
	case set(&m, find(yourAIAuto)):
		r.remember(MemoryLimit, m[1], m[2])
		r.remember(AvailableMemory, m[3], m[4])
		say(WarningNotice, "limit-guessed")
	case set(&m, find(yourAILimit)):
		r.remember(MemoryLimit, m[2], "bytes")
		say(InfoNotice, "limit-set")
	case set(&m, find(yourAIBaseline)):
		r.Step = optStep(m[1])
		r.remember(ActiveMemory, m[2], m[3])
	case set(&m, find(yourAILeak)):
		r.remember(LeakedMemory, m[1], m[2])
		say(WarningNotice, "leak")
	case set(&m, find(yourAIVirtual)):
		say(WarningNotice, "virtual-growth")
	case set(&m, find(yourAIOver)):
		r.remember(MemoryLimit, m[2], m[3])
		say(ErrorNotice, "over-limit")
		r.Notice.Fail, r.Notice.Fatal = trainer.FailConfig, true
	case set(&m, find(yourAIDiverged)):
		r.Step, r.Loss = optStep(m[2]), optFloat(strings.Trim(m[1], ",.()"))
		say(ErrorNotice, "diverged")
		r.Notice.Fail, r.Notice.Fatal = trainer.FailNonFinite, true
	case yourAISkipped.MatchString(line):
		say(WarningNotice, "skipped-tensor")
	case set(&m, find(yourAIReload)):
		r.Step = optStep(m[1])
		say(InfoNotice, "reload")
		if m := find(yourAIReloaded); m != nil {
			r.remember(ActiveMemory, m[1], m[2])
		}
	case set(&m, find(yourAIReloaded)):
		r.remember(ActiveMemory, m[1], m[2])
	default:
		return nil, NoMatch
	}
	return one(r, Signature)
}

// set keeps a match and reports whether there is one.
func set(m *[]string, found []string) bool {
	*m = found
	return found != nil
}
