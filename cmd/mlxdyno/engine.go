package main

import (
	"context"
	"fmt"
	"os"
	"slices"

	"github.com/mlxdyno/mlxdyno/mlxbind/install"
	"github.com/mlxdyno/mlxdyno/trainer"
	"github.com/mlxdyno/mlxdyno/trainer/mlxlm"
	"github.com/mlxdyno/mlxdyno/trainer/native"
	"github.com/mlxdyno/mlxdyno/trainer/worker"
)

// engineFor returns the engine of a name. What it is capable of can be asked
// before the environment is ready; it trains in one that is.
func engineFor(name string, env install.Env) (trainer.Engine, error) {
	switch name {
	case trainer.EngineMLXLM:
		return mlxlm.New(mlxlm.Options{Python: env.Python, Environ: env.Environ()}), nil
	case trainer.EngineNative:
		self, err := os.Executable()
		if err != nil {
			return nil, fmt.Errorf("find this program, which trains: %w", err)
		}
		return native.New(native.Options{Argv: []string{self, "worker"}, Environ: env.Environ(), Shim: env.Shim, BLAS: env.BLASLibrary, Version: Version}), nil
	}
	return nil, usagef("engine: none is called %q", name)
}

// engine returns what trains.
func (s *subject) engine() (trainer.Engine, error) { return engineFor(s.settings.Config.Engine, s.env) }

// bench runs bursts.
func (s *subject) bench() (worker.Bench, error) {
	e, err := s.engine()
	return worker.Bench{Engine: e}, err
}

// honoured refuses a configuration with knobs that its engine would ignore.
func (s *subject) honoured(ctx context.Context) error {
	e, err := s.engine()
	if err != nil {
		return err
	}
	caps, err := e.Capabilities(ctx)
	if err != nil {
		return fmt.Errorf("ask the %s engine what it honours: %w", e.Name(), err)
	}
	var p []string
	if s.settings.Config.Engine == trainer.EngineNative {
		p = native.Refuses(s.settings.Config, s.facts)
	}
	for _, knob := range trainer.Unsupported(s.settings.Config, caps) {
		advice := "no engine of this build does"
		if other := s.honouring(ctx, knob); other != "" {
			advice = "use --engine " + other
		}
		p = append(p, fmt.Sprintf("%s: the %s engine does not honour it; %s", knob, e.Name(), advice))
	}
	if len(p) > 0 {
		return &trainer.ConfigError{Problems: p}
	}
	return nil
}

// honouring returns an engine that honours a knob, or nothing.
func (s *subject) honouring(ctx context.Context, knob string) string {
	engines, _ := trainer.FindKnob("engine")
	for _, name := range engines.Choices {
		e, err := engineFor(name, s.env)
		if err != nil {
			continue // not in this build
		}
		if caps, err := e.Capabilities(ctx); err == nil && slices.Contains(caps.Knobs, knob) {
			return name
		}
	}
	return ""
}

// pythonWithMLXLM is the interpreter for commands that a person may type: that
// of the environment when there is one.
func pythonWithMLXLM() string {
	home, err := install.Home()
	if err != nil {
		return "python"
	}
	env, err := install.Find(home)
	if err != nil {
		return "python"
	}
	return env.Python
}
