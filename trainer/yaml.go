package trainer

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/google/renameio/v2"
	"go.yaml.in/yaml/v4"
)

// FileVersion numbers the form of the section "mlxdyno:".
const FileVersion = 1

// File is a configuration file, mlxdyno.yaml: mlx-lm's own keys at the top
// level, so that `mlx_lm.lora -c` takes the file too, and ours under
// "mlxdyno:".
type File struct {
	Settings Settings
	Expected *Expected // figures promised for exactly this configuration; nil when there are none
	Edited   bool      // a tuned file that was changed since: its promises are void
}

// ReadFile reads a configuration file. It is strict: a key that it does not
// know, a key given twice, or a value of the wrong kind is an error with its
// line. A knob that the file does not name keeps its default, which for
// num_layers is all blocks, where mlx-lm means the last 16.
//
// In a file that tune wrote, a knob keeps the origin that tune noted as long as
// its value is the one written then; another value counts as set by the file.
func ReadFile(path string) (File, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return File{}, fmt.Errorf("read configuration: %w", err)
	}
	f, err := parseFile(b)
	if err != nil {
		return File{}, fmt.Errorf("read configuration %s: %w", path, err)
	}
	return f, nil
}

// parked are keys of mlx-lm that are not knobs here. A file may carry them only
// with the value that changes nothing.
var parked = map[string]func(*yaml.Node) bool{
	"train":                 func(n *yaml.Node) bool { return n.Value == "true" },
	"fine_tune_type":        func(n *yaml.Node) bool { return n.Value == "lora" },
	"optimizer_config":      isEmptyDeep,
	"lr_schedule":           isNull,
	"resume_adapter_file":   isNull,
	"lora_parameters.keys":  isNull,
	"test":                  func(n *yaml.Node) bool { return n.Value == "false" },
	"trust_remote_code":     func(n *yaml.Node) bool { return n.Value == "false" },
	"clear_cache_threshold": func(n *yaml.Node) bool { return n.Value == "0" },
	"report_to":             isNull,
	"config":                isNull,
	"project_name":          anyValue, // only named in reports to other services
	"steps_per_report":      anyValue, // every step is reported here
	"test_batches":          anyValue, // no effect while test is false
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" }
func anyValue(*yaml.Node) bool { return true }

func isEmptyDeep(n *yaml.Node) bool {
	if n.Kind != yaml.MappingNode {
		return isNull(n)
	}
	for i := 1; i < len(n.Content); i += 2 {
		if v := n.Content[i]; v.Kind != yaml.MappingNode || len(v.Content) > 0 {
			return false
		}
	}
	return true
}

func parseFile(b []byte) (File, error) {
	var doc yaml.Node
	if err := yaml.Load(b, &doc); err != nil {
		return File{}, err
	}
	r := fileReader{file: File{Settings: NewSettings()}, seen: map[string]bool{}}
	root := &doc
	if doc.Kind == yaml.DocumentNode && len(doc.Content) == 1 {
		root = doc.Content[0]
	}
	if err := r.section("", root); err != nil {
		return File{}, err
	}
	return r.finish()
}

type fileReader struct {
	file     File
	seen     map[string]bool
	key      string            // Config.Key when tune wrote the file
	written  map[string]string // values of then, but for defaults
	origins  map[string]Origin // as tune wrote them
	expected *Expected
}

// section reads one mapping; prefix is its dotted path with a final dot.
func (r *fileReader) section(prefix string, n *yaml.Node) error {
	if n.Kind != yaml.MappingNode {
		return lineError(n, "want a mapping of keys to values")
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		if v.Kind == yaml.AliasNode {
			return lineError(v, "%s%s: aliases are not supported; write the value out", prefix, k.Value)
		}
		key := prefix + k.Value
		if r.seen[key] {
			return lineError(k, "%s is given twice", key)
		}
		r.seen[key] = true
		if err := r.entry(key, k, v); err != nil {
			return err
		}
	}
	return nil
}

func (r *fileReader) entry(key string, k, v *yaml.Node) error {
	switch key {
	case "mlxdyno", "lora_parameters":
		return r.section(key+".", v)
	case "mlxdyno.version":
		if v.Value != strconv.Itoa(FileVersion) {
			return lineError(v, "version %s of the section mlxdyno is not known to this program, which reads %d", v.Value, FileVersion)
		}
		return nil
	case "mlxdyno.key":
		r.key = v.Value
		return nil
	case "mlxdyno.written":
		return r.readWritten(v)
	case "mlxdyno.origins":
		return r.readOrigins(v)
	case "mlxdyno.expected":
		return r.readExpected(v)
	}
	if i := slices.IndexFunc(Knobs, func(k Knob) bool { return k.Key() == key }); i >= 0 {
		return r.knob(Knobs[i], v)
	}
	if harmless, ok := parked[key]; ok {
		if !harmless(v) {
			return lineError(k, "mlx-lm's key %s is not honoured here with this value; remove it, or train with mlx_lm.lora itself", key)
		}
		return nil
	}
	return lineError(k, "unknown key %s%s", key, suggestion(key))
}

func (r *fileReader) knob(k Knob, v *yaml.Node) error {
	if isNull(v) {
		return nil // mlx-lm reads null as "not given"
	}
	if v.Kind != yaml.ScalarNode {
		return lineError(v, "%s: want a single value", k.Key())
	}
	want := k.YAMLValue(&Config{})
	text, tag := v.Value, v.ShortTag()
	var ok bool
	switch want.(type) {
	case bool: // yes, no, on and off too: mlx-lm reads YAML 1.1
		var on bool
		if ok = v.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle) == 0 && v.Decode(&on) == nil; ok {
			text = strconv.FormatBool(on)
		}
	case int, uint64:
		var n int64
		if ok = tag == "!!int" && v.Decode(&n) == nil; ok {
			text = strconv.FormatInt(n, 10)
		}
	case float64:
		var x float64
		if ok = (tag == "!!float" || tag == "!!int") && v.Decode(&x) == nil; ok {
			text = strconv.FormatFloat(x, 'g', -1, 64)
		}
	default: // a text; for a limit (Unit bytes) also a number
		ok = tag == "!!str" || k.Unit == "bytes" && (tag == "!!int" || tag == "!!float")
	}
	if !ok {
		return lineError(v, "%s: %q is not %s", k.Key(), v.Value, kindName(want))
	}
	if err := r.file.Settings.Set(k.Name, text, FromFile); err != nil {
		return lineError(v, "%v", err)
	}
	return nil
}

func kindName(want any) string {
	switch want.(type) {
	case bool:
		return "true or false"
	case int, uint64:
		return "a whole number"
	case float64:
		return "a number"
	}
	return `a text; put it in quotes ("…")`
}

// byKnob hands over the entries of a mapping of knobs to texts.
func byKnob(key string, v *yaml.Node, take func(knob string, text *yaml.Node) error) error {
	if v.Kind != yaml.MappingNode {
		return lineError(v, "%s: want a mapping of knobs to texts", key)
	}
	for i := 0; i+1 < len(v.Content); i += 2 {
		name := v.Content[i].Value
		if _, ok := FindKnob(name); !ok {
			return lineError(v.Content[i], "%s: no knob is called %q", key, name)
		}
		if err := take(name, v.Content[i+1]); err != nil {
			return err
		}
	}
	return nil
}

func (r *fileReader) readWritten(v *yaml.Node) error {
	r.written = map[string]string{}
	return byKnob("mlxdyno.written", v, func(knob string, text *yaml.Node) error {
		r.written[knob] = text.Value
		return nil
	})
}

func (r *fileReader) readOrigins(v *yaml.Node) error {
	r.origins = map[string]Origin{}
	return byKnob("mlxdyno.origins", v, func(knob string, text *yaml.Node) error {
		origin := Origin(text.Value)
		switch origin {
		case FromFlag: // a flag of the study is a wish of the file by now
			origin = FromFile
		case FromTuned, FromFile, FromDefault:
		default:
			return lineError(text, "mlxdyno.origins: %q is not one of tuned, file, flag, default", origin)
		}
		r.origins[knob] = origin
		return nil
	})
}

func (r *fileReader) readExpected(v *yaml.Node) error {
	var plain map[string]any
	if err := v.Decode(&plain); err != nil {
		return lineError(v, "mlxdyno.expected: %v", err)
	}
	b, err := json.Marshal(plain)
	if err != nil {
		return lineError(v, "mlxdyno.expected: %v", err)
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	r.expected = new(Expected)
	if err := d.Decode(r.expected); err != nil {
		return lineError(v, "mlxdyno.expected: %v", err)
	}
	return nil
}

// finish settles who set what. Only a value that tune wrote carries tune's
// origin, and only the whole configuration that it wrote carries its promises.
func (r *fileReader) finish() (File, error) {
	if r.key == "" {
		if r.expected != nil || r.origins != nil || r.written != nil {
			return File{}, fmt.Errorf("the section mlxdyno has expected, origins or written, but not the key that they belong to; remove them or tune again")
		}
		return r.file, nil
	}
	s, defaults := &r.file.Settings, DefaultConfig()
	for _, k := range Knobs {
		was, ok := r.written[k.Name]
		if !ok {
			was = k.Get(&defaults)
		}
		_, named := s.Origins[k.Name]
		if !named || k.Get(&s.Config) != was {
			continue
		}
		if o, ok := r.origins[k.Name]; ok && o != FromDefault {
			s.Origins[k.Name] = o
		} else {
			delete(s.Origins, k.Name)
		}
	}
	if r.file.Edited = s.Config.Key() != r.key; !r.file.Edited {
		r.file.Expected = r.expected
	}
	return r.file, nil
}

func lineError(n *yaml.Node, format string, args ...any) error {
	return fmt.Errorf("line %d: %s", n.Line, fmt.Sprintf(format, args...))
}

// suggestion points at the right place of a key that is written in the wrong
// one, or spelled as the flag is.
func suggestion(key string) string {
	last := strings.ReplaceAll(key[strings.LastIndexByte(key, '.')+1:], "_", "-")
	for _, k := range Knobs {
		leaf := k.Key()[strings.LastIndexByte(k.Key(), '.')+1:]
		if last == k.Name || last == strings.ReplaceAll(leaf, "_", "-") {
			return "; did you mean " + k.Key() + "?"
		}
	}
	return ""
}

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
	top, lora, ours := mapping(), mapping(), mapping()
	put(top, "train", boolean(true), "")
	put(top, "fine_tune_type", quoted("lora"), "")
	put(ours, "version", plain("!!int", strconv.Itoa(FileVersion)), "")
	written, origins, defaults := mapping(), mapping(), DefaultConfig()
	for _, k := range Knobs {
		v, err := scalar(k.YAMLValue(&c))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", k.Name, err)
		}
		section, key := top, k.Key()
		if rest, ok := strings.CutPrefix(key, "lora_parameters."); ok {
			section, key = lora, rest
		} else if rest, ok := strings.CutPrefix(key, "mlxdyno."); ok {
			section, key = ours, rest
		}
		put(section, key, v, reasons[k.Name])
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
	put(top, "lora_parameters", lora, "")
	put(top, "mlxdyno", ours, "What follows is for mlxdyno alone; mlx_lm.lora ignores it.")
	top.HeadComment = "Train with: mlxdyno train -c FILE, or with mlx-lm alone: mlx_lm.lora -c FILE"
	if c.Model.Quantize != 0 {
		top.HeadComment += fmt.Sprintf("\nmlxdyno quantizes the base to %d bits at load. mlx_lm.lora -c FILE would train the base as stored,\nwith more memory than promised here, unless you convert it first: mlx_lm.convert -q --q-bits %d --q-group-size %d",
			c.Model.Quantize, c.Model.Quantize, c.Model.GroupSize)
	}
	return yaml.Dump(top, yaml.WithIndent(2), yaml.WithLineWidth(-1))
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
		s := strconv.FormatFloat(v, 'g', -1, 64)
		if !strings.ContainsAny(s, ".e") {
			s += ".0" // a float for mlx-lm too
		}
		return plain("!!float", s), nil
	default: // int, int64, uint64
		return plain("!!int", fmt.Sprint(v)), nil
	}
}
