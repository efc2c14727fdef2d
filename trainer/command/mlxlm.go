package command

import (
	"regexp"
	"strings"

	"github.com/mlxdyno/mlxdyno/trainer"
)

// MLXLM reads what mlx_lm.lora prints: the lines of versions up to 0.31.3 and
// the table of later ones, with or without its progress bars.
func MLXLM() Adapter {
	return Adapter{
		Name: "mlx-lm",
		Caveats: []string{
			"tokens/s counts supervised tokens and leaves out the time in which data was prepared and validated",
			"a loss is the mean since the report before",
		},
		New: func() Parser { return &mlxlm{} },
	}
}

// mlxlm keeps what it takes to know a partial report.
type mlxlm struct {
	total    int // steps that are to be done; 0 when it did not say
	last     int // step of the newest report
	seen     int // newest step of all, from 1; bars lag behind reports
	interval int // steps between reports; 0 until it is known
}

const num = `([-+]?(?:(?:\d[\d,]*)?\.?\d+(?:[eE][-+]?\d+)?|(?:nan|NaN|Infinity|inf|Inf)\b))`

var (
	mlxlmTrain  = regexp.MustCompile(`^Iter (\d+): Train loss ` + num + `, Learning Rate ` + num + `, It/sec ` + num + `, Tokens/sec ` + num + `, Trained Tokens (\d+)(?:\.0)?, Peak mem ` + num + ` GB`)
	mlxlmVal    = regexp.MustCompile(`^Iter (\d+): Val loss ` + num + `, Val took ` + num + `s`)
	mlxlmSaved  = regexp.MustCompile(`^Iter (\d+): Saved adapter weights to `)
	mlxlmStart  = regexp.MustCompile(`^Starting training\.*, iters: (\d+)`)
	mlxlmShare  = regexp.MustCompile(`^Trainable parameters: ` + num + `% \(` + num + `M/` + num + `M\)`)
	mlxlmRow    = regexp.MustCompile(`^\s+(\d+)\s+` + num + ` [▼▲]\s+` + num + `\s+` + num + `k$`)
	mlxlmValRow = regexp.MustCompile(`^\s+(\d+)\s+val\s+` + num + `\s+` + num + `s$`)
	mlxlmBar    = regexp.MustCompile(`^(train|val)\s+[^\d%]*\s(\d+)% ·\s+(\d+)/(\d+)$`)
	mlxlmPanel  = regexp.MustCompile(`^│\s+(model|type|dataset|optimizer|batch · iters|max seq)\s+(.*?)\s*│$`)
)

func (p *mlxlm) Parse(line string) ([]Reading, Match) {
	switch {
	case strings.HasPrefix(line, "Iter "):
		return p.iter(line)
	case strings.HasPrefix(line, " "):
		return p.row(line)
	case strings.HasPrefix(line, "train "), strings.HasPrefix(line, "val "):
		return p.bar(line)
	case strings.HasPrefix(line, "│"):
		return p.panel(line)
	case strings.HasPrefix(line, "╭─ mlx_lm.lora ─"):
		return nil, Signature
	case strings.HasPrefix(line, "Starting training"):
		if m := mlxlmStart.FindStringSubmatch(line); m != nil {
			*p = mlxlm{total: optStep(m[1]).Or(0)}
			return one(Reading{Steps: optStep(m[1]), Settings: []Setting{setting("iters", m[1])}}, Plausible)
		}
	case strings.HasPrefix(line, "Trainable parameters: "):
		if m := mlxlmShare.FindStringSubmatch(line); m != nil {
			return one(Reading{Settings: []Setting{setting("trainable_millions", m[2]), setting("parameters_millions", m[3])}}, Plausible)
		}
	case strings.HasPrefix(line, "[WARNING] "):
		return one(Reading{Notice: notice(WarningNotice, mlxlmWarning(line), line[len("[WARNING] "):])}, Plausible)
	case line == "Loading pretrained model", line == "Loading datasets":
		return nil, Plausible
	}
	return nil, NoMatch
}

func mlxlmWarning(line string) string {
	if strings.Contains(line, "Some sequences are longer than") {
		return "mlx-lm.truncated"
	}
	return "patient.warning"
}

func (p *mlxlm) iter(line string) ([]Reading, Match) {
	if m := mlxlmTrain.FindStringSubmatch(line); m != nil {
		r := Reading{
			Step: optStep(m[1]), Loss: optFloat(m[2]), LearningRate: optFloat(m[3]), StepsPerSecond: optRate(m[4]),
			TokensPerSecond: optRate(m[5]), TrainedTokens: optCount(m[6]),
		}
		if mem, ok := memory(PeakMemory, m[7], "GB", true); ok {
			r.Memory = []Memory{mem}
		}
		p.report(&r)
		return one(r, Signature)
	}
	if m := mlxlmVal.FindStringSubmatch(line); m != nil {
		return one(validated(m), Signature)
	}
	if mlxlmSaved.MatchString(line) {
		return nil, Signature
	}
	return nil, NoMatch
}

// validated is a validation, which mlx-lm does before the step that it names.
func validated(m []string) Reading {
	r := Reading{ValLoss: optFloat(m[2]), ValSeconds: optRate(m[3])}
	if n, ok := optStep(m[1]).Get(); ok && n > 0 {
		r.Step = trainer.Some(n - 1)
	}
	return r
}

// report notes a report of training and doubts the speed of a partial one: the
// last report divides the full number of steps between reports by its time.
func (p *mlxlm) report(r *Reading) {
	step := r.Step.Or(0)
	if step < p.last { // another training in the same log
		*p = mlxlm{}
	}
	since := step - p.last
	lastOne := p.total > 0 && step == p.total
	switch {
	case p.interval == 0 && lastOne:
		r.doubt(FieldStepsPerSecond, "the only report: mlx-lm divides by the full number of steps between reports, which this one may fall short of")
	case p.interval > 0 && since < p.interval:
		r.doubt(FieldStepsPerSecond, "a partial report: mlx-lm divides by the full number of steps between reports, so that the speed looks too high")
	}
	p.interval, p.last, p.seen = max(p.interval, since), step, max(p.seen, step+1)
	if p.total > 0 {
		r.Steps = trainer.Some(p.total)
	}
}

func (p *mlxlm) row(line string) ([]Reading, Match) {
	if m := mlxlmRow.FindStringSubmatch(line); m != nil {
		r := Reading{Step: optStep(m[1]), Loss: optFloat(m[2]), TokensPerSecond: optRate(m[3])}
		if v, ok := number(m[4]); ok && v >= 0 && v < maxCount/1000 {
			r.TrainedTokens = trainer.Some(int64(v*1000 + 0.5))
			r.doubt(FieldTrainedTokens, "printed in thousands with one decimal")
		}
		p.report(&r)
		return one(r, Signature)
	}
	if m := mlxlmValRow.FindStringSubmatch(line); m != nil {
		return one(validated(m), Signature)
	}
	if f := strings.Fields(line); len(f) == 4 && f[0] == "iter" && f[1] == "train_loss" && f[2] == "tok/s" && f[3] == "tokens" {
		*p = mlxlm{total: p.total}
		return nil, Signature
	}
	return nil, NoMatch
}

// bar reads the progress bar that newer versions draw on a terminal, again and
// again, and now and then from before the newest report.
func (p *mlxlm) bar(line string) ([]Reading, Match) {
	m := mlxlmBar.FindStringSubmatch(line)
	if m == nil {
		return nil, NoMatch
	}
	if m[1] == "val" {
		return nil, Plausible
	}
	var r Reading
	r.stepsOf(m[3], m[4])
	p.total = r.Steps.Or(p.total)
	step, ok := r.Step.Get()
	if !ok || step < p.seen {
		return nil, Plausible
	}
	p.seen = step + 1
	return one(r, Plausible)
}

func (p *mlxlm) panel(line string) ([]Reading, Match) {
	m := mlxlmPanel.FindStringSubmatch(line)
	if m == nil {
		return nil, NoMatch
	}
	r := Reading{}
	switch m[1] {
	case "batch · iters":
		batch, iters, _ := strings.Cut(m[2], " · ")
		r.Settings = []Setting{setting("batch_size", batch), setting("iters", strings.ReplaceAll(iters, ",", ""))}
		r.Steps = optStep(iters)
		p.total = r.Steps.Or(p.total)
	case "max seq":
		r.Settings = []Setting{setting("max_seq_length", strings.ReplaceAll(m[2], ",", ""))}
	case "optimizer":
		name, rate, _ := strings.Cut(m[2], " · lr ")
		r.Settings = []Setting{setting("optimizer", name), setting("learning_rate", rate)}
	case "type":
		r.Settings = []Setting{setting("fine_tune_type", m[2])}
	default:
		r.Settings = []Setting{setting(m[1], m[2])}
	}
	return one(r, Plausible)
}
