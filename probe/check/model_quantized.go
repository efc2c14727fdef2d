package check

import (
	"fmt"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/mlxdyno/mlxdyno/probe"
)

var bitsInName = regexp.MustCompile(`(?:^|[-_.])(?:(\d)-?bit|q(\d)|int(\d)|mxfp(\d)|nvfp(\d))(?:$|[-_.])`)

var modelNotQuantized = Check{
	Code: "model.not-quantized-as-named", DependsOn: []string{"model.readable"},
	Story: Story{
		Title: "Quantization named and stored",
		Means: "The name says the weights are quantized, but the files hold them in full width or at other bits. The run takes several times the memory that the name promises.",
		How:   "Bits in the directory's name are compared with the quantization stored in the files.",
		Do:    "Quantize at load with --quantize, or name the directory of the quantized model.",
	},
	run: func(in Input) probe.Finding {
		m := in.Snapshot.Model
		if m == nil || m.Facts == nil {
			return probe.Finding{}
		}
		match := bitsInName.FindStringSubmatch(strings.ToLower(filepath.Base(m.Path)))
		if match == nil {
			return probe.Finding{}
		}
		named := strings.Join(match[1:], "")
		stored := "none"
		if q := m.Facts.Quant; q != nil {
			stored = fmt.Sprint(q.Bits)
			if stored == named || q.Mixed {
				return pass("The weights are quantized as their name says", said("bits", stored, "", "safetensors headers"))
			}
		}
		evidence := []probe.Evidence{
			said("bits stored", stored, named, "safetensors headers"),
			size("weights", m.Facts.WeightBytes, "", "safetensors headers"),
		}
		if m.Facts.Quant != nil {
			return finding(probe.Warn, fmt.Sprintf("The model is named %s-bit but stored at %s bits", named, stored),
				"memory and speed follow what is stored", evidence...)
		}
		if in.config().Model.Quantize > 0 {
			return pass(fmt.Sprintf("The weights are stored unquantized and become %d-bit at load", in.config().Model.Quantize), evidence...)
		}
		f := finding(probe.Warn, fmt.Sprintf("The model is named %s-bit but is not quantized", named),
			"its weights take the memory of "+strings.ToLower(m.Facts.DType), evidence...)
		f.Fix = []probe.Fix{{Text: "Quantize it at load", Command: Command("doctor", in.Settings, Change{"quantize", named})}}
		return f
	},
}
