package main

import (
	"context"

	"github.com/mlxdyno/mlxdyno/report"
	"github.com/mlxdyno/mlxdyno/trainer"
	"github.com/mlxdyno/mlxdyno/trainer/native"
)

// explainPlan prints how a training would be computed, and trains nothing.
func (a *app) explainPlan(ctx context.Context, settings trainer.Settings) error {
	s, err := a.open(ctx, settings)
	if err != nil {
		return err
	}
	c := s.settings.Config
	doc := report.PlanDocument{Schema: report.PlanSchema, Engine: c.Engine, Device: s.env.Backend, Differences: []trainer.Difference{}}
	if c.Engine == trainer.EngineNative {
		doc.Differences = append(doc.Differences, native.Differences(c, s.about())...)
	}
	return a.print(doc, func() error { return report.Plan(a.stdout, doc, a.style()) })
}

func (s *subject) about() native.About {
	c := s.settings.Config
	st := s.set.Train.Stats(s.batching())
	about := native.About{Device: s.env.Backend, Quantized: c.Model.Quantize > 0 || s.facts.Quant != nil,
		Half: s.facts.DType == "BF16" || s.facts.DType == "F16", Blocks: s.facts.Layers,
		Padding: trainer.Some(st.Planned.PaddingShare), PaddingShipped: trainer.Some(st.Shipped.PaddingShare), Shapes: trainer.Some(st.Planned.Shapes)}
	if st.Tokens > 0 {
		about.Supervised = trainer.Some(float64(st.Supervised) / float64(st.Tokens))
	}
	return about
}
