package check

import (
	"github.com/mlxdyno/mlxdyno/probe"
	"github.com/mlxdyno/mlxdyno/probe/leak"
	"github.com/mlxdyno/mlxdyno/probe/patient"
	"github.com/mlxdyno/mlxdyno/trainer"
)

var patientCache = Check{
	Code: patient.CacheGrowth, Required: true, DependsOn: []string{"patient.leak", "patient.binding-leak"},
	Story: Story{
		Title: "Growth of MLX's cache",
		Means: "What is live stays level, but the buffers that MLX keeps for reuse grow: new sizes come that fit none of them, and nothing bounds the cache.",
		How:   "Cached and active memory as the trainer prints them.",
		Do:    "Bound it: mx.set_cache_limit(bytes), or mx.clear_cache() now and then; batches in few widths reuse more.",
	},
	run: func(in Input) probe.Finding {
		if in.Patient == nil {
			return probe.Finding{}
		}
		g := in.Patient.Report.Of(patient.Cache)
		switch {
		case g == nil:
			return probe.Finding{}
		case g.State == leak.None:
			return pass("MLX's cache does not grow", said("cache", g.Reason, "", in.printed()))
		case g.State != leak.Leaking:
			return probe.Finding{}
		}
		f := finding(in.worry(g), "MLX's cache grows by "+rate(g), "active memory does not explain it: freed buffers are kept and nothing bounds them; "+g.Reason, in.rateEvidence(g)...)
		if a := in.Patient.Report.Of(patient.Active); a != nil {
			f.Evidence = append(f.Evidence, said("active memory", a.Reason, "", in.printed()))
		}
		f.Confidence = in.grade(g.Rate.IsExact)
		in.provedByLimit(&f)
		f.Fix = []probe.Fix{{Text: "Bound the cache: mx.set_cache_limit(2 * 1024**3) before training, or mx.clear_cache() every few steps", Risk: "a limit that is too low costs speed: buffers are allocated again"},
			{Text: "Give batches few widths: each new width needs buffers of new sizes"}}
		return f
	},
}

// provedByLimit holds the growth against a second burst, in which the cache had
// a limit.
func (in Input) provedByLimit(f *probe.Finding) {
	again := in.Patient.Again
	if again == nil || again.Of != patient.CacheGrowth {
		return
	}
	g := again.Report.Of(patient.Cache)
	if g == nil || g.Readings < leak.MinReadings {
		f.Evidence = append(f.Evidence, said(again.Change, "it printed too little to tell", "", "second burst"))
		return
	}
	f.Evidence = append(f.Evidence, said(again.Change, "cache "+trainer.FormatBytes(g.First)+" → "+trainer.FormatBytes(g.Last)+", "+string(g.State), "level", "second burst"))
	before, ok1 := in.Patient.Report.Speed.StepSeconds.Get()
	after, ok2 := again.Report.Speed.StepSeconds.Get()
	if ok1 && ok2 {
		f.Evidence = append(f.Evidence, number("seconds a step, then", after, "s", number("", before, "", "", "").Observed, "second burst"))
	}
	if g.State == leak.None {
		f.Confidence = probe.Proven
		f.Why += "; with a limit it does not grow"
	}
}
