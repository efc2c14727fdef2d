package check

import (
	"fmt"

	"github.com/mlxdyno/mlxdyno/probe"
)

var dataMalformed = Check{
	Code: "data.malformed", DependsOn: []string{"data.readable"},
	Story: Story{
		Title: "Malformed rows",
		Means: "Some lines are not JSON objects or lack the keys of the format. They are left out of the training.",
		How:   "Every line is parsed.",
		Do:    "Correct or remove those lines; the data's own report names them.",
	},
	run: func(in Input) probe.Finding {
		d := in.Snapshot.Data
		if d == nil {
			return probe.Finding{}
		}
		if d.Malformed == 0 {
			return pass("Every row of the data is well formed")
		}
		f := finding(probe.Warn, fmt.Sprintf("%d rows of the data are malformed", d.Malformed), "nothing is learned from rows that cannot be read",
			count("malformed rows", d.Malformed, "", "0", d.Path), count("rows read", d.Rows["train"], "", "", d.Path))
		f.Fix = []probe.Fix{{Text: "Correct or remove those lines"}}
		return f
	},
}
