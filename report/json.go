package report

import (
	"bytes"
	"embed"
	"encoding/json"
	"fmt"
	"io"
	"sync"

	"github.com/mlxdyno/mlxdyno/trainer/run"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

// Names of documents that have no other home.
const (
	ErrorSchema = "mlxdyno/error/1"
	RunsSchema  = "mlxdyno/runs/1"
	SetupSchema = "mlxdyno/setup/1"
)

// Error is the document of a command that could not do its part.
type Error struct {
	Schema     string `json:"schema"` // ErrorSchema
	Code       string `json:"code"`   // stable, dotted
	Message    string `json:"message"`
	Hint       string `json:"hint,omitempty"` // what to do next
	ExitStatus int    `json:"exit_status"`
}

// RunsDocument is a list of trainings.
type RunsDocument struct {
	Schema string     `json:"schema"` // RunsSchema
	Runs   []run.Info `json:"runs"`
}

// JSON writes one document: an object, indented, and nothing else.
func JSON(w io.Writer, document any) error {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(document); err != nil {
		return fmt.Errorf("encode document: %w", err)
	}
	if _, err := w.Write(b.Bytes()); err != nil {
		return fmt.Errorf("write document: %w", err)
	}
	return nil
}

// Schemas holds the JSON Schema of every document, as schema/NAME.schema.json.
//
//go:embed schema/*.schema.json
var Schemas embed.FS

// Validate checks a document against the schema of that name, such as doctor.
func Validate(name string, document []byte) error {
	schema, err := compiled(name)
	if err != nil {
		return err
	}
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(document))
	if err != nil {
		return fmt.Errorf("read document: %w", err)
	}
	if err := schema.Validate(v); err != nil {
		return fmt.Errorf("validate %s document: %w", name, err)
	}
	return nil
}

var compiledSchemas sync.Map // name to *jsonschema.Schema

func compiled(name string) (*jsonschema.Schema, error) {
	if s, ok := compiledSchemas.Load(name); ok {
		return s.(*jsonschema.Schema), nil
	}
	path := "schema/" + name + ".schema.json"
	text, err := Schemas.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("no schema is called %q: %w", name, err)
	}
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	c.AssertFormat()
	if err := c.AddResource(path, v); err != nil {
		return nil, fmt.Errorf("add %s: %w", path, err)
	}
	s, err := c.Compile(path)
	if err != nil {
		return nil, fmt.Errorf("compile %s: %w", path, err)
	}
	compiledSchemas.Store(name, s)
	return s, nil
}
