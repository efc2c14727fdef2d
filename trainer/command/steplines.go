package command

import (
	"math"
	"regexp"
	"strings"

	"github.com/mlxdyno/mlxdyno/trainer"
)

// StepLines reads lines of any trainer that name a step and a loss in words, and
// progress bars in the form of tqdm that carry a loss.
func StepLines() Adapter {
	return Adapter{
		Name:    "steps",
		Caveats: []string{"the lines are of no trainer that is known here: what their numbers count is taken from their names"},
		New:     func() Parser { return stepLines{} },
	}
}

type stepLines struct{}

const sep = `["']?\s*[:=]?\s*`

var (
	anyStep    = regexp.MustCompile(`(?i)\b(?:global[ _]?step|steps?|iter(?:ation)?s?|it)` + sep + `#?\[?\s*(\d+)(?:\s*(?:/|of)\s*(\d+))?`)
	anyLoss    = regexp.MustCompile(`(?i)\b(?:(train(?:ing)?|val(?:id(?:ation)?)?|eval|test|avg|average|mean|smooth(?:ed)?)[ _/.-]?)?loss(?:\s+is)?` + sep + num)
	anyRate    = regexp.MustCompile(`(?i)\b(?:lr|learning[ _]?rate)` + sep + num)
	anyMemory  = regexp.MustCompile(`(?i)\b(peak|active|cache|rss|mem(?:ory)?)(?:[ _]?(?:mem(?:ory)?|usage|used))?` + sep + num + `\s*([kmgt]i?b)\b`)
	anyElapsed = regexp.MustCompile(`(?i)\belapsed(?:[ _]?time)?` + sep + `((?:\d+:)+\d+|[\d.]+\s*(?:ms|s|sec|m|min|h)\b)`)
	tqdmBar    = regexp.MustCompile(`(?:^|\s|\|)(\d+)/(\d+) \[((?:\d+:)+\d+)<[^,\]]*,\s*([\d.]+|\?)\s*(it/s|s/it)`)
)

var (
	anyTokens = bySide(`(?:tok(?:en)?s?(?:/|[ _]per[ _])s(?:ec(?:ond)?)?)`)
	anySpeed  = bySide(`(?:(?:it(?:er)?s?|steps?)/s(?:ec)?)`)
	anyPace   = bySide(`(?:s(?:ec)?/(?:it|step))`)
)

// sides find a number before or after its name. In "lr 1e-4 tok/s 812" and in
// "812 tok/s 2 it/s" only what stands around them tells which it is, so that the
// clearer forms are tried first.
type sides []*regexp.Regexp

func bySide(name string) sides {
	return sides{
		regexp.MustCompile(`(?i)(?:^|[^\w])` + name + `["']?\s*[:=]\s*` + num),
		regexp.MustCompile(`(?i)(?:^|[,;|([<>]\s*|\d\s+)` + num + `\s*` + name + `\b`),
		regexp.MustCompile(`(?i)(?:^|[^\w])` + name + `\s+` + num),
		regexp.MustCompile(`(?i)` + num + `\s*` + name + `\b`),
	}
}

func (s sides) find(line string) string {
	for _, re := range s {
		if m := re.FindStringSubmatch(line); m != nil {
			return lossNumber(m[1])
		}
	}
	return ""
}

// lineBytes is the length of a line beyond which it is no report of a step.
const lineBytes = 4 << 10

func (stepLines) Parse(line string) ([]Reading, Match) {
	if len(line) > lineBytes || strings.HasPrefix(line, `{"`) {
		return nil, NoMatch
	}
	lower := strings.ToLower(line)
	if !strings.Contains(lower, "loss") {
		return nil, NoMatch
	}
	var r Reading
	for _, m := range anyLoss.FindAllStringSubmatch(line, 8) {
		switch kind := strings.ToLower(m[1]); {
		case strings.HasPrefix(kind, "val"), kind == "eval":
			r.ValLoss = optFloat(lossNumber(m[2]))
		case kind == "test":
		case kind == "" || strings.HasPrefix(kind, "train"):
			if !r.Loss.Known() {
				r.Loss = optFloat(lossNumber(m[2]))
			}
		default:
			r.AverageLoss = optFloat(lossNumber(m[2]))
		}
	}
	if !r.Loss.Known() && !r.ValLoss.Known() && !r.AverageLoss.Known() {
		return nil, NoMatch
	}
	r.others(line)
	if m := tqdmBar.FindStringSubmatch(line); m != nil {
		r.stepsOf(m[1], m[2])
		if c, ok := clock(m[3]); ok {
			r.Elapsed = trainer.Some(c)
		}
		r.StepsPerSecond = speed(m[4], m[5] == "s/it")
	} else if m := anyStep.FindStringSubmatch(line); m != nil {
		r.stepsOf(m[1], m[2])
	}
	if !r.Step.Known() {
		return one(r, NoMatch)
	}
	return one(r, Plausible)
}

// lossNumber drops what a sentence puts after a number.
func lossNumber(s string) string { return strings.TrimRight(s, ",.") }

// others reads what a line may have beside step and loss.
func (r *Reading) others(line string) {
	if m := anyRate.FindStringSubmatch(line); m != nil {
		r.LearningRate = optFloat(lossNumber(m[1]))
	}
	r.TokensPerSecond = optRate(anyTokens.find(line))
	if r.StepsPerSecond = optRate(anySpeed.find(line)); !r.StepsPerSecond.Known() {
		r.StepsPerSecond = speed(anyPace.find(line), true)
	}
	if m := anyElapsed.FindStringSubmatch(line); m != nil {
		if c, ok := clock(m[1]); ok {
			r.Elapsed = trainer.Some(c)
		}
	}
	for _, m := range anyMemory.FindAllStringSubmatch(line, 8) {
		kind := SomeMemory
		switch strings.ToLower(m[1]) {
		case "peak":
			kind = PeakMemory
		case "active":
			kind = ActiveMemory
		case "cache":
			kind = CacheMemory
		case "rss":
			kind = ResidentMemory
		}
		if mem, ok := memory(kind, lossNumber(m[2]), m[3], false); ok {
			r.Memory = append(r.Memory, mem)
		}
	}
}

// speed reads steps a second, or seconds a step.
func speed(s string, inverse bool) trainer.Opt[float64] {
	v, ok := optRate(s).Get()
	if !ok || !inverse {
		return optRate(s)
	}
	if v = 1 / v; math.IsInf(v, 0) {
		return trainer.Opt[float64]{}
	}
	return trainer.Some(v)
}
