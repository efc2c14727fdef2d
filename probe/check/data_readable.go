package check

import (
	"cmp"

	"github.com/mlxdyno/mlxdyno/probe"
)

var dataReadable = Check{
	Code: "data.readable", Required: true, DependsOn: []string{"model.tokenizer"},
	Story: Story{
		Title: "Training data",
		Means: "There is no train.jsonl, it cannot be read, or it is in none of the three formats: text, prompt and completion, or messages.",
		How:   "The files are read line by line; with a model and an environment they are tokenized too. What is wrong with the tokenizer or the environment is not held against the data.",
		Do:    "Give a directory with train.jsonl (and best valid.jsonl), or one .jsonl file.",
	},
	run: func(in Input) probe.Finding {
		d := in.Snapshot.Data
		if d == nil {
			return probe.Finding{}
		}
		if d.Problem != "" {
			f := finding(probe.Fail, "The training data cannot be used", d.Problem, said("data", d.Path, "", "--data"))
			f.Fix = []probe.Fix{{Text: `Give a directory with train.jsonl, one JSON object a line: {"text": …}, {"prompt": …, "completion": …} or {"messages": […]}`}}
			return f
		}
		if d.Rows == nil {
			return unclear("What the training data holds is unknown", "it was not read")
		}
		n := d.Rows["train"]
		if n == 0 {
			return finding(probe.Fail, "The training data has no rows", "there is nothing to train on", count("rows", n, "", "≥ 1", d.Path))
		}
		return pass("The training data can be read", said("format", cmp.Or(d.Format, "unknown"), "", d.Path), count("rows", n, "", "", d.Path))
	},
}
