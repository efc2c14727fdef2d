package trainer

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/google/renameio/v2"
	"go.yaml.in/yaml/v4"
)

// WriteFile writes f so that ReadFile returns the same configuration and
// `mlx_lm.lora -c` trains the same thing as far as it can. reasons, by knob
// name, become comments. The file is replaced whole or not at all.
func WriteFile(path string, f File, reasons map[string]string) error {
	b, err := f.encode(reasons)
	if err != nil {
		return fmt.Errorf("write configuration %s: %w", path, err)
	}
	if err := renameio.WriteFile(path, b, 0o644); err != nil {
		return fmt.Errorf("write configuration: %w", err)
	}
	return nil
}

func (f File) encode(reasons map[string]string) ([]byte, error) {
	c := f.Settings.Config
	top, lora, adamw, ours := mapping(), mapping(), mapping(), mapping()
	sections := map[string]*yaml.Node{"": top, "lora_parameters": lora, "optimizer_config.adamw": adamw, "mlxdyno": ours}
	put(top, "train", boolean(true), "")
	put(top, "fine_tune_type", quoted("lora"), "")
	put(ours, "version", plain("!!int", strconv.Itoa(FileVersion)), "")
	written, origins, defaults := mapping(), mapping(), DefaultConfig()
	for _, k := range Knobs {
		if !leftOut(k, &c) && !scheduled(k) {
			v, err := value(k.YAMLValue(&c))
			if err != nil {
				return nil, fmt.Errorf("%s: %w", k.Name, err)
			}
			dot := strings.LastIndexByte(k.Key(), '.')
			put(sections[k.Key()[:max(dot, 0)]], k.Key()[dot+1:], v, reasons[k.Name])
		}
		if value := k.Get(&c); value != k.Get(&defaults) {
			put(written, k.Name, quoted(value), "")
		}
		if o := f.Settings.Origin(k.Name); o != FromDefault {
			put(origins, k.Name, quoted(string(o)), "")
		}
	}
	put(ours, "key", quoted(c.Key()), "Config.Key of this file as written: an edit voids expected")
	put(ours, "written", written, "Values as written, but for defaults: one that was edited since counts as set by you")
	put(ours, "origins", origins, "")
	if f.Expected != nil {
		e, err := expectedNode(*f.Expected)
		if err != nil {
			return nil, err
		}
		put(ours, "expected", e, "")
	}
	if len(adamw.Content) > 0 {
		config := mapping()
		put(config, "adamw", adamw, "")
		put(top, "optimizer_config", config, "")
	}
	if schedule := scheduleNode(c); schedule != nil {
		put(top, "lr_schedule", schedule, reasons["lr-schedule"])
	}
	put(top, "lora_parameters", lora, "")
	put(top, "mlxdyno", ours, "What follows is for mlxdyno alone; mlx_lm.lora ignores it.")
	top.HeadComment = "Train with: mlxdyno train -c FILE, or with mlx-lm alone: mlx_lm.lora -c FILE"
	if c.Model.Quantize != 0 {
		top.HeadComment += fmt.Sprintf("\nmlxdyno quantizes the base to %d bits at load. mlx_lm.lora -c FILE would train the base as stored,\nwith more memory than promised here, unless you convert it first: mlx_lm.convert -q --q-bits %d --q-group-size %d",
			c.Model.Quantize, c.Model.Quantize, c.Model.GroupSize)
	}
	if c.Quality.GradClip != 0 {
		top.HeadComment += "\nmlx_lm.lora does not clip gradients: it would train without mlxdyno.grad_clip."
	}
	return yaml.Dump(top, yaml.WithIndent(2), yaml.WithLineWidth(-1))
}

// leftOut reports whether a file does not name the knob, since it has its
// default: these keys of mlx-lm's say more than a value when they are there.
func leftOut(k Knob, c *Config) bool {
	if defaults := DefaultConfig(); k.Get(c) != k.Get(&defaults) {
		return false
	}
	return scheduled(k) || k.Key() == "lora_parameters.keys" || strings.HasPrefix(k.Key(), "optimizer_config.")
}

func expectedNode(e Expected) (*yaml.Node, error) {
	b, err := json.Marshal(e)
	if err != nil {
		return nil, fmt.Errorf("expected: %w", err)
	}
	var doc yaml.Node // JSON is YAML, once what YAML takes for a line break is escaped
	if err := yaml.Load(escaped(b), &doc); err != nil {
		return nil, fmt.Errorf("expected: %w", err)
	}
	n := doc.Content[0]
	n.Style = 0 // one line a figure
	for i := 0; i < len(n.Content); i += 2 {
		n.Content[i].Style = 0
	}
	return n, nil
}

// escaped writes what does not print as \uXXXX, which JSON and YAML read alike.
// Outside its strings JSON has nothing of the kind.
func escaped(json []byte) []byte {
	var out []byte
	for _, r := range string(json) {
		if unicode.IsPrint(r) || r > 0xffff {
			out = utf8.AppendRune(out, r)
		} else {
			out = fmt.Appendf(out, `\u%04x`, r)
		}
	}
	return out
}

func mapping() *yaml.Node { return &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"} }

func plain(tag, value string) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: tag, Value: value}
}

func boolean(v bool) *yaml.Node { return plain("!!bool", strconv.FormatBool(v)) }

// quoted is a text in double quotes: YAML 1.1, which mlx-lm reads, takes a bare
// "off" or "1:30" for something else.
func quoted(v string) *yaml.Node {
	n := plain("!!str", v)
	n.Style = yaml.DoubleQuotedStyle
	return n
}

func put(m *yaml.Node, key string, v *yaml.Node, comment string) {
	k := plain("!!str", key)
	k.HeadComment = printable(comment)
	m.Content = append(m.Content, k, v)
}

// printable keeps a comment a comment: one line, nothing that YAML refuses.
func printable(s string) string {
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, s))
}

// value is a scalar, or a list of names on one line.
func value(v any) (*yaml.Node, error) {
	names, list := v.([]string)
	if !list {
		return scalar(v)
	}
	n := &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq", Style: yaml.FlowStyle}
	for _, name := range names {
		v, err := scalar(name)
		if err != nil {
			return nil, err
		}
		n.Content = append(n.Content, v)
	}
	return n, nil
}

func scalar(v any) (*yaml.Node, error) {
	switch v := v.(type) {
	case string:
		if strings.ToValidUTF8(v, "") != v {
			return nil, fmt.Errorf("%q is not UTF-8, which YAML needs", v)
		}
		return quoted(v), nil
	case bool:
		return boolean(v), nil
	case float64:
		return float(v), nil
	default: // int, int64, uint64
		return plain("!!int", fmt.Sprint(v)), nil
	}
}

func float(v float64) *yaml.Node {
	s := strconv.FormatFloat(v, 'g', -1, 64)
	if !strings.ContainsAny(s, ".e") {
		s += ".0" // a float for mlx-lm too
	}
	return plain("!!float", s)
}
