package trainer

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

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
	"resume_adapter_file":   isNull,
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

func isEmpty(n *yaml.Node) bool {
	return isNull(n) || n.Kind == yaml.MappingNode && len(n.Content) == 0
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
	schedule *scheduleReader   // what the file says of lr_schedule, if it does
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
	case "optimizer_config", "optimizer_config.adamw", "lr_schedule":
		if isNull(v) {
			return nil
		}
		if key == "lr_schedule" {
			r.schedule = &scheduleReader{at: k}
		}
		return r.section(key+".", v)
	case "lr_schedule.name", "lr_schedule.arguments", "lr_schedule.warmup", "lr_schedule.warmup_init":
		return r.schedule.entry(key, v)
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
	harmless, ok := parked[key]
	if !ok && strings.HasPrefix(key, "optimizer_config.") {
		// Other optimizers, and what else adamw takes.
		harmless, ok = func(n *yaml.Node) bool { return isEmpty(n) && strings.Count(key, ".") == 1 }, true
	}
	if ok {
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
	want := k.YAMLValue(&Config{})
	if _, list := want.([]string); list {
		return r.names(k, v)
	}
	if v.Kind != yaml.ScalarNode {
		return lineError(v, "%s: want a single value", k.Key())
	}
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

// names reads a knob that is a list of names in YAML.
func (r *fileReader) names(k Knob, v *yaml.Node) error {
	var names []string
	for _, n := range v.Content {
		if n.Kind != yaml.ScalarNode || n.ShortTag() != "!!str" || strings.TrimSpace(n.Value) == "" || strings.Contains(n.Value, ",") {
			return lineError(n, "%s: want one name an entry", k.Key())
		}
		names = append(names, n.Value)
	}
	if v.Kind != yaml.SequenceNode || len(names) == 0 {
		return lineError(v, "%s: want a list of names", k.Key())
	}
	if err := r.file.Settings.Set(k.Name, strings.Join(names, ","), FromFile); err != nil {
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
	if err := r.settleSchedule(); err != nil {
		return File{}, err
	}
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
		if !named && !leftOut(k, &s.Config) || k.Get(&s.Config) != was {
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
	if k, ok := nearestKnob(key); ok {
		return "; did you mean " + k.Key() + "?"
	}
	return ""
}
