package native

import (
	"strings"

	"github.com/mlxdyno/mlxdyno/mlxbind"
	"github.com/mlxdyno/mlxdyno/trainer"
	"github.com/mlxdyno/mlxdyno/trainer/native/decoder"
	"github.com/mlxdyno/mlxdyno/trainer/native/profile"
)

// record has all steps from here on recorded.
func (t *training) record() error {
	if why, fix := RefusesProfile(t.config); why != "" {
		return fail(trainer.FailConfig, "config.profile", fix, "no profile: %s", why)
	}
	base, err := t.base()
	if err != nil {
		return err
	}
	t.recorder = profile.New(t.s, base)
	t.learner.blocks.watched = newWatched(t.learner.blocks, t.recorder)
	return nil
}

// base is what is in memory before a step and after it, by block and layer.
func (t *training) base() ([]trainer.Held, error) {
	l, m := t.learner, t.learner.model
	var all []trainer.Held
	at, counted := map[string]int{}, map[mlxbind.Array]bool{}
	add := func(a mlxbind.Array, path ...string) {
		if counted[a] {
			return
		}
		counted[a] = true
		name := strings.Join(path, " ")
		i, ok := at[name]
		if !ok {
			i, at[name] = len(all), len(all)
			all = append(all, trainer.Held{Path: path})
		}
		all[i].Bytes += int64(t.s.Info(a).Bytes)
	}
	names := m.AdapterNames()
	for i := range m.Blocks() {
		b := m.Block(i)
		for k, a := range b.Frozen {
			add(a, "weights", blockName(i), layerOf(b.Names[k]))
		}
		first, end := m.AdaptersOf(i)
		for k := first; k < end; k++ {
			add(l.adapters[k], "adapters", blockName(i), layerOf(decoder.Within(names[k])))
		}
	}
	head := m.Head()
	for k, a := range head.Frozen {
		add(a, "weights", profile.Head, layerOf(head.Names[k]))
	}
	for _, a := range m.Arrays() { // an embedding that is not the head
		add(a, "weights", profile.Embedding)
	}
	for _, a := range l.state {
		add(a, "optimizer")
	}
	return all, t.s.Err()
}

// sayProfile says where the time and the memory of the recorded steps went, once.
func (t *training) sayProfile() error {
	r := t.recorder
	if r.Steps() == 0 {
		return nil
	}
	t.recorder, t.learner.blocks.watched = nil, nil
	held := r.Held()
	summary := r.Summary(profile.Rates{}, nil, 0)
	rates, err := profile.MeasureRates(t.s, t.s.DTypeOf(t.learner.model.Head().Frozen[0]), summary.PeakBytes-t.s.Memory().Active)
	if err != nil { // the steps are done, and what they measured is worth saying
		rates = profile.Rates{}
		if err := t.events.warn("profile.ceiling", "what the device can do at best could not be measured: %v", err); err != nil {
			return err
		}
	}
	if t.clears() {
		t.s.ClearCache()
	}
	spans := r.Spans(rates)
	for _, s := range spans {
		if err := t.events.emit(s); err != nil {
			return err
		}
	}
	for _, h := range held {
		if err := t.events.emit(h); err != nil {
			return err
		}
	}
	return t.events.emit(r.Summary(rates, spans, len(held)))
}

// endAfterProfile ends a job whose profile is not said yet.
func (t *training) endAfterProfile(reason trainer.DoneReason) error {
	if err := t.sayProfile(); err != nil {
		return err
	}
	return end(reason)
}
