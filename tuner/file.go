package tuner

import (
	"errors"

	"github.com/mlxdyno/mlxdyno/trainer"
)

// WriteConfig writes the chosen configuration of a report to path, each value
// with its reason, in the form that trainer.ReadFile and `mlx_lm.lora -c` read.
func WriteConfig(path string, r *Report) error {
	if r.Verdict == Impossible {
		return errors.New("write configuration: the study found none; see its report")
	}
	f := trainer.File{Settings: trainer.Settings{Config: r.Config, Origins: map[string]trainer.Origin{}}, Expected: &r.Expected}
	reasons := map[string]string{}
	for _, c := range r.Choices {
		if c.Origin != trainer.FromDefault {
			f.Settings.Origins[c.Knob] = c.Origin
			reasons[c.Knob] = c.Reason
		}
	}
	return trainer.WriteFile(path, f, reasons)
}
