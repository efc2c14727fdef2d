// Package check concludes. Each check is a pure function from what was read
// and measured to one Finding, in a file of its own, with a stable dotted code
// and the story that `doctor explain` tells. A Mac's snapshot is therefore
// diagnosed anywhere.
//
// A check that cannot know says unknown and why; it never guesses. A check
// whose cause has already been found is skipped, so that only roots show.
package check

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/mlxdyno/mlxdyno/probe"
	"github.com/mlxdyno/mlxdyno/probe/budget"
	"github.com/mlxdyno/mlxdyno/probe/leak"
	"github.com/mlxdyno/mlxdyno/probe/patient"
	"github.com/mlxdyno/mlxdyno/trainer"
)

// Input is what checks look at. Whatever is nil or unknown was not read, not
// named or not run.
type Input struct {
	Snapshot probe.Snapshot
	Settings trainer.Settings
	Budget   *budget.Budget // of the burst's shape, with limits
	Burst    *trainer.Burst // of one exact shape
	Data     *trainer.Burst // over the data's own batches
	Leak     *leak.Verdict  // on the burst's active memory
	Strain   *Strain        // of the machine, over the bursts

	// Patient is a training that is not ours. Of the checks on our own, those
	// on the machine alone apply to it.
	Patient *patient.Case

	// Widest is the shape of the data's widest batch; zero when unknown.
	Widest trainer.Shape

	// PaddingGrouped is the share of padding if rows of like length shared
	// batches, for data that is not grouped.
	PaddingGrouped trainer.Opt[float64]
}

// Strain is how the machine was before the bursts and after them.
type Strain struct{ Before, After probe.Vitals }

// Check is one question to the input.
type Check struct {
	Code      string
	Required  bool     // a failure makes the diagnosis fail; others only warn
	DependsOn []string // codes whose failure or warning explains this one away
	Story     Story

	// run returns a finding without Code and DependsOn. One without a severity
	// says that the question does not arise here.
	run func(Input) probe.Finding

	// prove, where it is not nil, says how a burst can take the cause away.
	prove func(Input) (Experiment, bool)
}

// Story explains a check to a person.
type Story struct {
	Title string `json:"title"`
	Means string `json:"means"` // what a finding means
	How   string `json:"how"`   // how it is checked
	Do    string `json:"do"`    // what to do
}

// Explanation is the whole story of one code.
type Explanation struct {
	Code      string   `json:"code"`
	Required  bool     `json:"required"`
	DependsOn []string `json:"depends_on,omitempty"`
	Provable  bool     `json:"provable"` // a burst can take the cause away
	Story
}

// registry lists all checks, causes before their consequences.
var registry = []Check{
	mlxInstall, mlxParts, mlxVersion, mlxLeaks, mlxBLAS,
	modelReadable, modelTokenizer, modelNotQuantized,
	dataReadable, dataMalformed, dataTruncation, dataPadding,
	memoryPageSize, memoryCgroup, memoryLimitUnit, memoryLimitAboveRAM, memoryLimitBelowWeights,
	memoryFits, memoryLogits, memorySwap, memoryPressure, memoryOthers, memoryWiredLimit, memoryWiredKnob,
	crashPanic, crashJetsam, crashOOM, crashGPU, crashLastRun,
	gpuResources, powerMode, powerThermal, diskSpace, diskWrites,
	configCheckpointDropout, burstOutcome, configCheckpointNeedless, configMatmul, configLoRAWiring, configWeightsLoaded, modelUpcast,
	burstCeiling, burstSwapping, burstTraces, burstHandles, burstLeak, burstCache, memoryCacheSmall, burstFootprint, burstFootprintGap,
	burstDrift, burstDataWait, burstFixedCost, configReload, compileShapes,
	patientOutcome, patientUnderstood, patientPageSize, patientLimit, patientBinding, patientLoRA, patientWeights, patientUpcast,
	patientLeak, patientShapes, patientCache, patientGrowth, patientSpeedUnit, patientImpossible, patientHidden, patientPace,
	patientFlags, patientReload, patientResident, patientStrain, patientHost,
}

// onPatients says whether a check applies to a training that is not ours.
func (c Check) onPatients() bool {
	switch c.Code {
	case "memory.cgroup", "memory.swap", "memory.pressure", "memory.others", "memory.wired-limit", "power.mode":
		return true
	}
	return strings.HasPrefix(c.Code, "patient.")
}

// Run runs every check, in order. A check whose cause was found is Skipped.
func Run(in Input) []probe.Finding {
	var out []probe.Finding
	found := map[string]bool{} // codes that explain others away
	for _, c := range registry {
		if in.Patient != nil && !c.onPatients() {
			continue
		}
		f := c.run(in)
		if f.Severity == "" {
			continue
		}
		f.Code, f.DependsOn = c.Code, c.DependsOn
		if i := slices.IndexFunc(c.DependsOn, func(code string) bool { return found[code] }); i >= 0 {
			f = probe.Finding{Code: c.Code, DependsOn: c.DependsOn, Severity: probe.Skipped,
				Title: c.Story.Title + ": not judged", Why: "explained by " + c.DependsOn[i]}
		}
		found[c.Code] = f.Severity == probe.Fail || f.Severity == probe.Warn || f.Severity == probe.Skipped
		out = append(out, f)
	}
	return out
}

// Explain returns the story of a code, for `doctor explain`.
func Explain(code string) (Explanation, bool) {
	i := slices.IndexFunc(registry, func(c Check) bool { return c.Code == code })
	if i < 0 {
		return Explanation{}, false
	}
	return registry[i].explain(), true
}

// Stories are the explanations of all checks, in order.
func Stories() []Explanation {
	out := make([]Explanation, len(registry))
	for i, c := range registry {
		out[i] = c.explain()
	}
	return out
}

func (c Check) explain() Explanation {
	return Explanation{Code: c.Code, Required: c.Required, DependsOn: c.DependsOn, Provable: c.prove != nil, Story: c.Story}
}

// Codes lists all codes in the order in which they are checked.
func Codes() []string {
	out := make([]string, len(registry))
	for i, c := range registry {
		out[i] = c.Code
	}
	return out
}

// Sort puts the worst first and keeps the order of checks among equals.
func Sort(findings []probe.Finding) {
	order := []probe.Severity{probe.Fail, probe.Warn, probe.Unclear, probe.Info, probe.Skipped, probe.Pass}
	slices.SortStableFunc(findings, func(a, b probe.Finding) int {
		return cmp.Compare(slices.Index(order, a.Severity), slices.Index(order, b.Severity))
	})
}

func (in Input) config() trainer.Config { return in.Settings.Config }

// backend is what MLX computes on: metal, cuda or cpu; empty when unknown.
func (in Input) backend() string {
	if b := in.Snapshot.Install.Backend; b != "" {
		return b
	}
	if in.Snapshot.Host.OS == "darwin" {
		return "metal"
	}
	return ""
}

// lengths returns the data's lengths when they are known.
func (in Input) lengths() *probe.LengthStats {
	if in.Snapshot.Data == nil || in.Snapshot.Data.Lengths == nil || in.Snapshot.Data.Lengths.Rows == 0 {
		return nil
	}
	return in.Snapshot.Data.Lengths
}

func pass(title string, evidence ...probe.Evidence) probe.Finding {
	return probe.Finding{Severity: probe.Pass, Title: title, Evidence: evidence, Confidence: probe.Measured}
}

func finding(severity probe.Severity, title, why string, evidence ...probe.Evidence) probe.Finding {
	return probe.Finding{Severity: severity, Title: title, Why: why, Evidence: evidence, Confidence: probe.Measured}
}

func unclear(title, why string) probe.Finding {
	return probe.Finding{Severity: probe.Unclear, Title: title, Why: why}
}

// notRead is unclear because a value could not be read.
func notRead[T any](title string, v probe.Value[T]) probe.Finding {
	why := v.Reason()
	if v.Source() != "" {
		why = v.Source() + ": " + why
	}
	return unclear(title, why)
}

func percent(share float64) string {
	if share < 0.0995 {
		return fmt.Sprintf("%.1f %%", 100*share)
	}
	return fmt.Sprintf("%.0f %%", 100*share)
}
