package report

import (
	"encoding"
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mlxdyno/mlxdyno/mlxbind/install"
	"github.com/mlxdyno/mlxdyno/probe"
	"github.com/mlxdyno/mlxdyno/probe/diagnose"
	"github.com/mlxdyno/mlxdyno/probe/leak"
	"github.com/mlxdyno/mlxdyno/probe/pace"
	"github.com/mlxdyno/mlxdyno/probe/patient"
	"github.com/mlxdyno/mlxdyno/probe/verify"
	"github.com/mlxdyno/mlxdyno/trainer"
	"github.com/mlxdyno/mlxdyno/trainer/run"
	"github.com/mlxdyno/mlxdyno/tuner"
	"github.com/mlxdyno/mlxdyno/tuner/compare"
	"github.com/mlxdyno/mlxdyno/tuner/fits"
)

// documents are the Go types of the documents by the names of their schemas.
var documents = map[string]struct {
	schema string // value of the member "schema"
	title  string
	zero   any
}{
	"doctor":   {diagnose.Schema, "What mlxdyno doctor --json prints", diagnose.Report{}},
	"tune":     {tuner.Schema, "What mlxdyno tune --json prints", tuner.Report{}},
	"compare":  {compare.Schema, "What mlxdyno tune --compare --json prints", compare.Report{}},
	"fits":     {fits.Schema, "What mlxdyno tune --what-fits --json prints", fits.Report{}},
	"train":    {run.Schema, "What mlxdyno train --json and mlxdyno report --json print", run.Report{}},
	"setup":    {SetupSchema, "What mlxdyno setup --json prints", SetupDocument{}},
	"bench":    {BenchSchema, "What mlxdyno bench --json prints", BenchDocument{}},
	"cap":      {CapSchema, "What mlxdyno bench --suite cap --json prints", CapDocument{}},
	"predict":  {PredictSchema, "What mlxdyno bench --suite predict --json prints", PredictDocument{}},
	"runs":     {RunsSchema, "What mlxdyno runs --json prints", RunsDocument{}},
	"snapshot": {probe.SnapshotSchema, "A machine's snapshot", probe.Snapshot{}},
	"chain":    {ChainSchema, "What doctor --tune, doctor --train and train --auto print with --json: a part that was not reached is absent", Chain{}},
	"explain":  {ExplainSchema, "What mlxdyno doctor explain --json prints", ExplainDocument{}},
	"fuse":     {FuseSchema, "What mlxdyno fuse --json prints", FuseDocument{}},
	"plan":     {PlanSchema, "What mlxdyno train --explain-plan --json prints", PlanDocument{}},
	"verify":   {verify.Schema, "What mlxdyno report --verify --json prints", verify.Comparison{}},
	"error":    {ErrorSchema, "What any command prints with --json when it could not do its part", Error{}},
}

// words are the values that a string type may have.
var words = map[reflect.Type][]any{
	reflect.TypeFor[probe.Severity]():     {"pass", "info", "warn", "fail", "skipped", "unknown"},
	reflect.TypeFor[probe.Confidence]():   {"", "proven", "measured", "likely"},
	reflect.TypeFor[probe.ProofVerdict](): {"proven", "refuted", "open"},
	reflect.TypeFor[verify.Verdict]():     {"pass", "fail", "open"},
	reflect.TypeFor[probe.CrashKind]():    {"panic", "jetsam", "oom", "gpu"},
	reflect.TypeFor[probe.Thermal]():      {"nominal", "moderate", "heavy", "trapping", "sleeping"},
	reflect.TypeFor[trainer.Outcome]():    {"", "finished", "stopped", "failed", "crashed", "killed", "oom", "stalled", "broken"},
	reflect.TypeFor[trainer.Origin]():     {"default", "tuned", "file", "flag"},
	reflect.TypeFor[tuner.Verdict]():      {"confirmed", "unconfirmed", "impossible"},
	reflect.TypeFor[compare.Verdict]():    {"faster", "slower", "even", "open", "only a", "only b", "neither"},
	reflect.TypeFor[tuner.Preference]():   {"", "speed", "memory", "quality"},
	reflect.TypeFor[fits.BasisKind]():     {"calibrated", "arithmetic", "published"},
	reflect.TypeFor[run.State]():          {"", "running", "finished", "interrupted", "failed", "died"},
	reflect.TypeFor[install.State]():      {"", "ready", "missing", "stale", "broken"},
	reflect.TypeFor[leak.State]():         {"none", "leak", "inconclusive"},
	reflect.TypeFor[probe.PowerMode]():    {"normal", "low", "high"},
	reflect.TypeFor[pace.State]():         {"steady", "slower", "faster", "unclear"},
	reflect.TypeFor[patient.Source]():     {"log", "command", "process"},
	reflect.TypeFor[trainer.FailKind]():   {"oom", "nonfinite", "data", "config", "internal"},
	reflect.TypeFor[trainer.DoneReason](): {"steps", "budget", "stop"},
}

// TestSchemasFollowTheTypes makes every schema from its Go type and compares it
// with the file; -update writes the files.
func TestSchemasFollowTheTypes(t *testing.T) {
	for name, d := range documents {
		t.Run(name, func(t *testing.T) {
			m := schemaMaker{defs: map[string]any{}, names: map[reflect.Type]string{}}
			root := m.object(reflect.TypeOf(d.zero))
			root["properties"].(map[string]any)["schema"] = map[string]any{"const": d.schema}
			root["$schema"] = "https://json-schema.org/draft/2020-12/schema"
			root["$id"] = "urn:" + strings.ReplaceAll(d.schema, "/", ":")
			root["title"] = d.title
			if len(m.defs) > 0 {
				root["$defs"] = m.defs
			}
			got, err := json.MarshalIndent(root, "", "  ")
			if err != nil {
				t.Fatal(err)
			}
			golden(t, filepath.Join("schema", name+".schema.json"), string(got)+"\n")
		})
	}
}

// TestSchemasCompile holds for those written by hand too.
func TestSchemasCompile(t *testing.T) {
	paths, err := fs.Glob(Schemas, "schema/*.schema.json")
	if err != nil || len(paths) < len(documents) {
		t.Fatalf("%d schemas, error %v", len(paths), err)
	}
	for _, path := range paths {
		if _, err := compiled(strings.TrimSuffix(filepath.Base(path), ".schema.json")); err != nil {
			t.Error(err)
		}
	}
}

// schemaMaker writes the schema of a Go type as encoding/json renders it.
type schemaMaker struct {
	defs  map[string]any
	names map[reflect.Type]string
}

var (
	textMarshaler = reflect.TypeFor[encoding.TextMarshaler]()
	jsonMarshaler = reflect.TypeFor[json.Marshaler]()
)

func (m schemaMaker) of(t reflect.Type) map[string]any {
	generic := func(name string) bool {
		return strings.HasPrefix(t.Name(), name+"[")
	}
	field := func(name string) reflect.Type {
		f, _ := t.FieldByName(name)
		return f.Type
	}
	switch {
	case t == reflect.TypeFor[time.Time]():
		return map[string]any{"type": "string", "format": "date-time"}
	case t == reflect.TypeFor[trainer.Float]():
		return map[string]any{"oneOf": []any{map[string]any{"type": "number"}, map[string]any{"enum": []any{"NaN", "Infinity", "-Infinity"}}}}
	case t == reflect.TypeFor[trainer.Limit]():
		return map[string]any{"type": []any{"integer", "null"}}
	case generic("Opt"):
		return m.orNull(field("value"))
	case generic("Value"):
		return map[string]any{"type": "object", "additionalProperties": false,
			"properties": map[string]any{"value": m.of(field("v")), "unknown": map[string]any{"type": "string"}, "source": map[string]any{"type": "string"}},
			"oneOf":      []any{map[string]any{"required": []any{"value"}}, map[string]any{"required": []any{"unknown"}}}}
	case t.Implements(jsonMarshaler) || t.Implements(textMarshaler):
		panic("no schema for " + t.String())
	}
	switch t.Kind() {
	case reflect.Pointer:
		return m.orNull(t.Elem())
	case reflect.Slice:
		return map[string]any{"type": []any{"array", "null"}, "items": m.of(t.Elem())}
	case reflect.Array:
		return map[string]any{"type": "array", "items": m.of(t.Elem()), "minItems": t.Len(), "maxItems": t.Len()}
	case reflect.Map:
		return map[string]any{"type": []any{"object", "null"}, "additionalProperties": m.of(t.Elem())}
	case reflect.Bool:
		return map[string]any{"type": "boolean"}
	case reflect.String:
		if w := words[t]; w != nil {
			return map[string]any{"enum": w}
		}
		return map[string]any{"type": "string"}
	case reflect.Int, reflect.Int32, reflect.Int64:
		return map[string]any{"type": "integer"}
	case reflect.Uint32, reflect.Uint64:
		return map[string]any{"type": "integer", "minimum": 0}
	case reflect.Float64:
		return map[string]any{"type": "number"}
	case reflect.Struct:
		return map[string]any{"$ref": "#/$defs/" + m.define(t)}
	}
	panic("no schema for " + t.String())
}

func (m schemaMaker) orNull(t reflect.Type) map[string]any {
	s := m.of(t)
	if kind, ok := s["type"].(string); ok {
		s["type"] = []any{kind, "null"}
		return s
	}
	return map[string]any{"anyOf": []any{s, map[string]any{"type": "null"}}}
}

// define puts a struct among the definitions, under its own name or, when
// another package has one of that name too, under both names.
func (m schemaMaker) define(t reflect.Type) string {
	if name, ok := m.names[t]; ok {
		return name
	}
	name := strings.ReplaceAll(t.String(), ".", "-")
	m.names[t] = name
	m.defs[name] = map[string]any{}
	m.defs[name] = m.object(t)
	return name
}

// object is a struct's schema. Members that we do not know are allowed: a
// minor version may add some.
func (m schemaMaker) object(t reflect.Type) map[string]any {
	properties, required := map[string]any{}, []any{}
	m.fields(t, properties, &required)
	return map[string]any{"type": "object", "properties": properties, "required": required}
}

func (m schemaMaker) fields(t reflect.Type, properties map[string]any, required *[]any) {
	for i := range t.NumField() {
		f := t.Field(i)
		tag := f.Tag.Get("json")
		if tag == "-" || !f.IsExported() {
			continue
		}
		name, options, _ := strings.Cut(tag, ",")
		if name == "" {
			if f.Anonymous {
				m.fields(f.Type, properties, required)
				continue
			}
			name = f.Name
		}
		properties[name] = m.of(f.Type)
		if !strings.Contains(options, "omit") {
			*required = append(*required, name)
		}
	}
}

// golden compares got with a file, or writes the file.
func golden(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), got); d != "" {
		t.Errorf("%s differs (-want +got; -update accepts it):\n%s", path, d)
	}
}
