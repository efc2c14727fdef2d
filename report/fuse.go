package report

import (
	"io"

	"github.com/mlxdyno/mlxdyno/trainer"
)

// FuseSchema is the schema of FuseDocument.
const FuseSchema = "mlxdyno/fuse/1"

// FuseDocument is a model that an adapter was merged into.
type FuseDocument struct {
	Schema  string   `json:"schema"` // FuseSchema
	Model   string   `json:"model"`
	Adapter string   `json:"adapter"`
	Path    string   `json:"path"`           // of the new model
	Modules int      `json:"modules"`        // that the adapter changed
	Files   []string `json:"files"`          // of weights
	Bytes   int64    `json:"bytes"`          // of weights
	DType   string   `json:"dtype"`          // in which was merged
	Bits    int      `json:"bits,omitempty"` // of the new model's weights, when they are quantized
	Seconds float64  `json:"seconds"`
	Notes   []string `json:"notes,omitempty"`
}

// Fuse writes what became of a merge for a person. python is the interpreter
// that has mlx-lm.
func Fuse(w io.Writer, d FuseDocument, s Style, python string) error {
	p := &page{Style: s}
	p.marked("mlxdyno fuse: ", strong, fine, plural(d.Modules, "module", "modules")+" merged in "+seconds(d.Seconds))
	kind := d.DType
	if d.Bits > 0 {
		kind = plural(d.Bits, "bit", "bits")
	}
	p.gap()
	p.table([]column{{}, {}}, [][]cell{
		{{"model", faint}, {d.Model, plain}}, {{"adapter", faint}, {d.Adapter, plain}},
		{{"new model", faint}, {joined(" · ", d.Path, trainer.FormatBytes(d.Bytes), kind, plural(len(d.Files), "file of weights", "files of weights")), plain}},
	})
	for _, n := range d.Notes {
		p.gap()
		p.marked("i ", note, plain, n)
	}
	p.gap()
	p.text(0, plain, "mlx-lm takes it as it is:")
	p.verbatim("  $ ", strong, trainer.CommandLine(python, "-m", "mlx_lm", "generate", "--model", d.Path)+" --prompt '…'")
	return p.flush(w)
}
