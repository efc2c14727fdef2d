package check

import "github.com/mlxdyno/mlxdyno/probe"

var modelTokenizer = Check{
	Code: "model.tokenizer", Required: true, DependsOn: []string{"model.readable"},
	Story: Story{
		Title: "Tokenizer files",
		Means: "The model's directory has weights but no tokenizer, so that no text can be turned into tokens.",
		How:   "The directory is searched for the files that tokenizers come in.",
		Do:    "Copy the tokenizer files of the same model beside the weights, or download the model again.",
	},
	run: func(in Input) probe.Finding {
		m := in.Snapshot.Model
		if m == nil || m.Facts == nil {
			return probe.Finding{}
		}
		if m.Facts.HasTokenizer {
			return pass("The model has its tokenizer")
		}
		f := finding(probe.Fail, "The model's directory has no tokenizer", "text cannot be turned into tokens without the model's own tokenizer",
			said("tokenizer files", "none", "tokenizer.json or tokenizer.model", m.Path))
		f.Fix = []probe.Fix{{Text: "Copy the tokenizer files of the same model into " + m.Path}}
		return f
	},
}
