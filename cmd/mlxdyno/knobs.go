package main

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/mlxdyno/mlxdyno/trainer"
	"github.com/spf13/cobra"
)

// knobFlags are the flags made from trainer.Knobs, with -c and --set.
type knobFlags struct {
	file   string
	sets   []string
	values map[string]*knobValue
}

// knobValue is a knob's flag: its text is judged by the knob itself, later, so
// that every source of a value is judged alike.
type knobValue struct{ text, kind string }

func (v *knobValue) String() string     { return v.text }
func (v *knobValue) Set(s string) error { v.text = s; return nil }
func (v *knobValue) Type() string       { return v.kind }

// kindOf names what a knob takes, for help.
func kindOf(k trainer.Knob, defaults *trainer.Config) string {
	switch k.YAMLValue(defaults).(type) {
	case bool:
		return "bool"
	case int, uint64:
		return "int"
	case float64:
		return "float"
	case []string:
		return "names"
	}
	if k.Unit == "bytes" {
		return "size"
	}
	return "name"
}

// addKnobFlags gives cmd a flag for every knob, -c FILE and --set KNOB=VALUE.
func addKnobFlags(cmd *cobra.Command) *knobFlags {
	k := &knobFlags{values: map[string]*knobValue{}}
	f := cmd.Flags()
	f.SortFlags = false // knobs in the order of their table
	f.StringVarP(&k.file, "config", "c", "", "read knobs from `FILE`, mlxdyno.yaml or mlx-lm's own YAML; flags win over it")
	f.StringArrayVar(&k.sets, "set", nil, "set a knob, as `KNOB=VALUE`; may be repeated")
	defaults := trainer.DefaultConfig()
	for _, knob := range trainer.Knobs {
		v := &knobValue{kind: kindOf(knob, &defaults)}
		k.values[knob.Name] = v
		usage := knob.Doc
		if d := knob.Get(&defaults); d != "" && d != "default" && knob.Name != "adapter-path" {
			usage += fmt.Sprintf(" (default %s)", d)
		}
		flag := f.VarPF(v, knob.Name, "", usage)
		if knob.IsSwitch {
			flag.NoOptDefVal = "true"
		}
		if len(knob.Choices) > 0 {
			_ = cmd.RegisterFlagCompletionFunc(knob.Name, cobra.FixedCompletions(knob.Choices, cobra.ShellCompDirectiveNoFileComp))
		}
	}
	_ = cmd.MarkFlagDirname("model")
	_ = cmd.RegisterFlagCompletionFunc("set", func(_ *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
		var names []string
		for _, knob := range trainer.Knobs {
			names = append(names, knob.Name+"=")
		}
		return names, cobra.ShellCompDirectiveNoSpace | cobra.ShellCompDirectiveNoFileComp
	})
	return k
}

// settings applies file and flags over the defaults, flags last. It also
// returns the figures that a tuned file promises, if what it promised them for
// is unchanged.
func (a *app) settings(cmd *cobra.Command, k *knobFlags) (trainer.Settings, *trainer.Expected, error) {
	s, expected := trainer.NewSettings(), (*trainer.Expected)(nil)
	if k.file != "" {
		file, err := trainer.ReadFile(k.file)
		if errors.Is(err, fs.ErrNotExist) {
			return s, nil, usagef("read configuration: %s does not exist; mlxdyno tune writes one", k.file)
		}
		if err != nil {
			return s, nil, &userError{Code: "config.file", Message: err.Error(), Hint: "correct " + k.file + ", or write a new one with mlxdyno tune", Status: statusOurs}
		}
		s, expected = file.Settings, file.Expected
		if file.Edited {
			a.progress("%s was edited since tune wrote it: its promised figures no longer hold", k.file)
		}
	}
	tuned := s.Config.Key()
	for _, knob := range trainer.Knobs {
		if !cmd.Flags().Changed(knob.Name) {
			continue
		}
		if err := s.Set(knob.Name, k.values[knob.Name].text, trainer.FromFlag); err != nil {
			return s, nil, usagef("--%v", err)
		}
	}
	for _, set := range k.sets {
		name, value, ok := strings.Cut(set, "=")
		if !ok {
			return s, nil, usagef("--set %s: want KNOB=VALUE, such as --set rank=16", set)
		}
		if err := s.Set(name, value, trainer.FromFlag); err != nil {
			return s, nil, usagef("--set %s: %v", set, err)
		}
	}
	if expected != nil && s.Config.Key() != tuned {
		expected = nil
		a.progress("flags change what %s was tuned for: its promised figures no longer hold", k.file)
	}
	return s, expected, absolute(&s)
}

// refuse says that flags were given which have no effect here.
func refuse(cmd *cobra.Command, flags []string, goWith string) error {
	for _, name := range flags {
		if cmd.Flags().Changed(name) {
			return usagef("--%s has no effect here: it goes with %s", name, goWith)
		}
	}
	return nil
}
