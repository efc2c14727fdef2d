package command

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"

	"github.com/mlxdyno/mlxdyno/trainer"
)

const (
	describedBytes    = 256 << 10 // of a description
	describedPatterns = 64
	describedRegexp   = 4 << 10
)

// field is what a named group of a description may be.
type field struct {
	units []string // that its number may have; none when it has no unit
	set   func(r *Reading, value, unit string)
}

// ParseAdapter reads a user's own description of what a trainer prints:
//
//	name: my-trainer
//	patterns:
//	  - match: 'it (?P<step>\d+): (?P<loss>\S+), (?P<step_seconds>\S+) ms, peak (?P<peak>\S+) GB'
//	    units: {step_seconds: ms, peak: GB}
//	  - match: '^WARN (?P<warning>.*)'
//
// The expressions are Go's (RE2), whose time is linear in the line. Every named
// group is a field; a number that may have several units needs one. The first
// pattern that matches a line is the one that counts. A mistake is an error that
// names its line.
func ParseAdapter(text []byte) (Adapter, error) {
	if len(text) > describedBytes {
		return Adapter{}, fmt.Errorf("read adapter: %d bytes are more than %d", len(text), describedBytes)
	}
	var doc yaml.Node
	if err := yaml.Load(text, &doc); err != nil {
		return Adapter{}, fmt.Errorf("read adapter: %w", err)
	}
	root := &doc
	if doc.Kind == yaml.DocumentNode && len(doc.Content) == 1 {
		root = doc.Content[0]
	}
	d, err := describe(root)
	if err != nil {
		return Adapter{}, fmt.Errorf("read adapter: %w", err)
	}
	return Adapter{Name: d.name, New: func() Parser { return d }}, nil
}

type described struct {
	name     string
	patterns []pattern
}

type pattern struct {
	re     *regexp.Regexp
	fields []string // by number of the group; empty for groups without a name
	units  map[string]string
	set    []func(r *Reading, value, unit string) // by number of the group
}

func at(n *yaml.Node, format string, args ...any) error {
	line := n.Line
	if line == 0 {
		line = 1
	}
	return fmt.Errorf("line %d: %s", line, fmt.Sprintf(format, args...))
}

// mapping calls entry for each key of n, which may not occur twice.
func mapping(n *yaml.Node, what string, entry func(key string, k, v *yaml.Node) error) error {
	if n.Kind != yaml.MappingNode {
		return at(n, "%s: want keys and values", what)
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		if seen[k.Value] {
			return at(k, "%q is given twice", k.Value)
		}
		seen[k.Value] = true
		if v.Kind == yaml.AliasNode {
			return at(v, "%s: aliases are not supported; write the value out", k.Value)
		}
		if err := entry(k.Value, k, v); err != nil {
			return err
		}
	}
	return nil
}

func scalar(v *yaml.Node, what string) (string, error) {
	if v.Kind != yaml.ScalarNode || v.Value == "" {
		return "", at(v, "%s: want a text", what)
	}
	return v.Value, nil
}

func describe(root *yaml.Node) (described, error) {
	var d described
	err := mapping(root, "adapter", func(key string, k, v *yaml.Node) (err error) {
		switch key {
		case "name":
			d.name, err = scalar(v, key)
			return err
		case "patterns":
			if v.Kind != yaml.SequenceNode || len(v.Content) == 0 {
				return at(v, "patterns: want a list of patterns")
			}
			if len(v.Content) > describedPatterns {
				return at(v, "patterns: %d are more than %d", len(v.Content), describedPatterns)
			}
			for _, n := range v.Content {
				p, err := describePattern(n)
				if err != nil {
					return err
				}
				d.patterns = append(d.patterns, p)
			}
			return nil
		}
		return at(k, "%q is not known: want name or patterns", key)
	})
	switch {
	case err != nil:
		return described{}, err
	case d.name == "":
		return described{}, at(root, "name is missing")
	case len(d.patterns) == 0:
		return described{}, at(root, "patterns are missing")
	}
	return d, nil
}

func describePattern(n *yaml.Node) (pattern, error) {
	p := pattern{units: map[string]string{}}
	var units *yaml.Node
	err := mapping(n, "pattern", func(key string, k, v *yaml.Node) error {
		switch key {
		case "match":
			return p.compile(v)
		case "units":
			units = v
			return nil
		}
		return at(k, "%q is not known: want match or units", key)
	})
	if err != nil {
		return p, err
	}
	if p.re == nil {
		return p, at(n, "match is missing")
	}
	if units != nil {
		if err := mapping(units, "units", p.unit); err != nil {
			return p, err
		}
	}
	known := fields()
	p.set = make([]func(*Reading, string, string), len(p.fields))
	for i, name := range p.fields {
		f := known[name]
		if name != "" && len(f.units) > 0 && p.units[name] == "" {
			return p, at(n, "%s needs a unit: add units: {%s: %s}", name, name, f.units[0])
		}
		p.set[i] = f.set
	}
	return p, nil
}

func (p *pattern) compile(v *yaml.Node) error {
	text, err := scalar(v, "match")
	if err != nil {
		return err
	}
	if len(text) > describedRegexp {
		return at(v, "match: %d characters are more than %d", len(text), describedRegexp)
	}
	re, err := regexp.Compile(text)
	if err != nil {
		return at(v, "match: %s", strings.TrimPrefix(err.Error(), "error parsing regexp: "))
	}
	p.re, p.fields = re, re.SubexpNames()
	known := fields()
	named := false
	for _, name := range p.fields {
		if name == "" {
			continue
		}
		if _, ok := known[name]; !ok {
			return at(v, "match: the group %q is not known: want %s", name, strings.Join(slices.Sorted(maps.Keys(known)), ", "))
		}
		named = true
	}
	if !named {
		return at(v, `match: it has no named group such as (?P<step>\d+)`)
	}
	return nil
}

func (p *pattern) unit(key string, k, v *yaml.Node) error {
	f, ok := fields()[key]
	if !ok || !slices.Contains(p.fields, key) {
		return at(k, "units: the pattern has no group %q", key)
	}
	unit, err := scalar(v, key)
	if err != nil {
		return err
	}
	if !slices.Contains(f.units, unit) {
		if len(f.units) == 0 {
			return at(v, "units: %s has no unit", key)
		}
		return at(v, "units: %s cannot be in %q: want %s", key, unit, strings.Join(f.units, ", "))
	}
	p.units[key] = unit
	return nil
}

func (d described) Parse(line string) ([]Reading, Match) {
	for _, p := range d.patterns {
		m := p.re.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		var r Reading
		for i, name := range p.fields {
			if name != "" && m[i] != "" {
				p.set[i](&r, m[i], p.units[name])
			}
		}
		if !r.measured() && r.Notice == nil && !r.Steps.Known() {
			continue
		}
		return one(r, Signature)
	}
	return nil, NoMatch
}

// fields are the groups that a description may name.
func fields() map[string]field {
	times := []string{"s", "ms", "min", "h", "hms"}
	sizes := []string{"GB", "MB", "kB", "B", "GiB", "MiB", "KiB"}
	mem := func(kind MemoryKind) field {
		return field{sizes, func(r *Reading, v, u string) {
			if m, ok := memory(kind, v, u, true); ok {
				r.Memory = append(r.Memory, m)
			}
		}}
	}
	say := func(level NoticeLevel) field {
		return field{nil, func(r *Reading, v, _ string) {
			r.Notice = notice(level, "described."+string(level), v)
			if level == ErrorNotice {
				r.Notice.Fail = trainer.FailInternal
			}
		}}
	}
	return map[string]field{
		"step":              {nil, func(r *Reading, v, _ string) { r.Step = optStep(v) }},
		"steps":             {nil, func(r *Reading, v, _ string) { r.Steps = optStep(v) }},
		"loss":              {nil, func(r *Reading, v, _ string) { r.Loss = optFloat(v) }},
		"average_loss":      {nil, func(r *Reading, v, _ string) { r.AverageLoss = optFloat(v) }},
		"val_loss":          {nil, func(r *Reading, v, _ string) { r.ValLoss = optFloat(v) }},
		"learning_rate":     {nil, func(r *Reading, v, _ string) { r.LearningRate = optFloat(v) }},
		"tokens_per_second": {nil, func(r *Reading, v, _ string) { r.TokensPerSecond = optRate(v) }},
		"steps_per_second":  {nil, func(r *Reading, v, _ string) { r.StepsPerSecond = optRate(v) }},
		"trained_tokens":    {nil, func(r *Reading, v, _ string) { r.TrainedTokens = optCount(v) }},
		"step_seconds": {times[:2], func(r *Reading, v, u string) {
			if d, err := span(v, u); err == nil && d > 0 {
				r.StepsPerSecond = trainer.Some(1 / d.Seconds())
			}
		}},
		"elapsed": {times, func(r *Reading, v, u string) {
			if d, err := span(v, u); err == nil {
				r.Elapsed = trainer.Some(Clock{Time: d, Resolution: time.Duration(float64(spanUnit(u)) * max(lastDigit(v), 1e-9))})
			}
		}},
		"active": mem(ActiveMemory), "peak": mem(PeakMemory), "cache": mem(CacheMemory),
		"resident": mem(ResidentMemory), "memory": mem(SomeMemory),
		"warning": say(WarningNotice), "error": say(ErrorNotice),
	}
}

func spanUnit(unit string) time.Duration {
	u, ok := timeUnit(unit)
	if !ok {
		return time.Second // of hms
	}
	return u
}

// span reads a number of a unit of time, or 1:02:03 for hms.
func span(v, unit string) (time.Duration, error) {
	if unit == "hms" {
		if c, ok := clockOfColons(v); ok {
			return c.Time, nil
		}
		return 0, errors.New("no time")
	}
	n, ok := number(v)
	if !ok || n < 0 || !(n*float64(spanUnit(unit)) <= float64(maxClock)) {
		return 0, errors.New("no time")
	}
	return time.Duration(n * float64(spanUnit(unit))), nil
}
