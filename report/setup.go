package report

import (
	"fmt"
	"io"

	"github.com/mlxdyno/mlxdyno/mlxbind/install"
)

// SetupDocument is what became of a set-up.
type SetupDocument struct {
	Schema      string         `json:"schema"`                // SetupSchema
	Environment *install.Env   `json:"environment,omitempty"` // nil when there is none to use
	Report      install.Report `json:"report"`
}

// Setup writes a set-up for a person; env is nil when there is none to use.
func Setup(w io.Writer, env *install.Env, r install.Report, s Style) error {
	p := &page{Style: s}
	switch {
	case r.State == install.Ready && r.UpToDate:
		p.marked("mlxdyno setup: ", strong, fine, "ready, nothing to do")
	case r.State == install.Ready:
		p.marked("mlxdyno setup: ", strong, fine, "ready after "+seconds(r.Seconds))
	default:
		p.marked("mlxdyno setup: ", strong, bad, joined(": ", string(r.State), r.Before))
	}
	if env != nil {
		var rows [][]cell
		add := func(name, value string) {
			if value != "" {
				rows = append(rows, []cell{{name, faint}, {value, plain}})
			}
		}
		kind := "your own environment"
		if env.Managed {
			kind = "managed environment"
		}
		add("python", joined(" · ", env.PythonVersion, env.Python, kind))
		add("MLX", joined(" · ", env.Versions["mlx"], env.Backend, env.Device))
		add("mlx-lm", env.Versions["mlx-lm"])
		add("BLAS", env.BLAS)
		add("home", env.Home)
		p.gap()
		p.table([]column{{}, {}}, rows)
	}
	if len(r.Stages) > 0 && !r.UpToDate {
		p.heading("Done")
		rows := make([][]cell, len(r.Stages))
		for i, stage := range r.Stages {
			rows[i] = []cell{{text: stage.Name}, {text: seconds(stage.Seconds)}, {stage.Detail, faint}}
		}
		p.table([]column{{title: "stage"}, {title: "took", right: true}, {title: "detail"}}, rows)
	}
	if r.SelfTest != nil {
		p.selfTest(*r.SelfTest)
	}
	for _, n := range r.Notes {
		p.gap()
		p.marked("i ", note, plain, n)
	}
	if r.Log != "" && (p.Verbose || r.State != install.Ready) {
		p.gap()
		p.text(0, faint, "everything that was said: "+r.Log)
	}
	return p.flush(w)
}

// selfTest folds checks that hold into one line.
func (p *page) selfTest(t install.SelfTest) {
	p.gap()
	good := 0
	for _, c := range t.Checks {
		switch {
		case !c.OK:
			p.marked("✗ ", bad, plain, joined(": ", c.Name, c.Detail))
		case p.Verbose:
			p.marked("✓ ", fine, plain, joined(": ", c.Name, c.Detail))
		default:
			good++
		}
	}
	if good > 0 {
		speed := ""
		if t.GFLOPS > 0 {
			speed = fmt.Sprintf(", about %s GFLOP/s in a float32 product", number(t.GFLOPS))
		}
		p.marked("✓ ", fine, plain, plural(good, "self-test check", "self-test checks")+" passed"+speed)
	}
}
