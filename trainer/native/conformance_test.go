package native

import (
	"flag"
	"testing"

	"github.com/mlxdyno/mlxdyno/trainer/conformance"
	"github.com/mlxdyno/mlxdyno/trainer/demo"
)

var kills = flag.Int("kills", 10, "workers to kill at random moments in TestConformance/resume")

// plain is the model of tests that are not about the model. Groups of 64 do not
// divide the width of its feed-forward layer.
var plain = demo.Shape{Hidden: 64, Intermediate: 96, Layers: 3, Heads: 4, KVHeads: 2, Tied: true}

func TestConformance(t *testing.T) {
	j := job(t, plain, 1)
	conformance.Run(t, ours(t), conformance.World{Model: j.Config.Model.Path, Text: j.Config.Data.Path, Tokens: j.Tokens, Kills: *kills})
}
