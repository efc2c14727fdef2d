package report

import (
	"github.com/mlxdyno/mlxdyno/probe/check"
	"github.com/mlxdyno/mlxdyno/probe/diagnose"
	"github.com/mlxdyno/mlxdyno/trainer/run"
	"github.com/mlxdyno/mlxdyno/tuner"
)

// Names of documents that a command makes of others' parts.
const (
	ChainSchema   = "mlxdyno/chain/1"
	ExplainSchema = "mlxdyno/explain/1"
)

// Chain is the document of a command that goes on from one part to the next.
// It ends with the part at which the command ended.
type Chain struct {
	Schema string           `json:"schema"` // ChainSchema
	Doctor *diagnose.Report `json:"doctor,omitempty"`
	Tune   *tuner.Report    `json:"tune,omitempty"`
	Train  *run.Report      `json:"train,omitempty"`
}

// ExplainDocument is the whole story of one check.
type ExplainDocument struct {
	Schema string `json:"schema"` // ExplainSchema
	check.Explanation
}
