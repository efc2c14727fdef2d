package check

import (
	"cmp"

	"github.com/mlxdyno/mlxdyno/probe"
)

var dataReadable = Check{
	Code: "data.readable", Required: true,
	Story: Story{
		Title: "Training data",
		Means: "There is no train.jsonl, or it is in none of the three formats: text, prompt and completion, or messages.",
		How:   "The files are read line by line, without a tokenizer.",
		Do:    "Give a directory with train.jsonl (and best valid.jsonl), or one .jsonl file.",
	},
	run: func(in Input) probe.Finding {
		d := in.Snapshot.Data
		if d == nil {
			return probe.Finding{}
		}
		if d.Problem != "" {
			f := finding(probe.Fail, "The training data cannot be read", d.Problem, said("data", d.Path, "", "--data"))
			f.Fix = []probe.Fix{{Text: `Give a directory with train.jsonl, one JSON object a line: {"text": …}, {"prompt": …, "completion": …} or {"messages": […]}`}}
			return f
		}
		n := d.Rows["train"]
		if n == 0 {
			return finding(probe.Fail, "The training data has no rows", "there is nothing to train on", count("rows", n, "", "≥ 1", d.Path))
		}
		return pass("The training data can be read", said("format", cmp.Or(d.Format, "unknown"), "", d.Path), count("rows", n, "", "", d.Path))
	},
}
