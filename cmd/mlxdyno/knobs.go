package main

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/mlxdyno/mlxdyno/trainer"
	"github.com/spf13/cobra"
)

// knobFlags are the flags made from trainer.Knobs, with -c and --set.
type knobFlags struct {
	file   string
	sets   []string
	values map[string]*string
}

// addKnobFlags gives cmd a flag for every knob, -c FILE and --set KNOB=VALUE.
func addKnobFlags(cmd *cobra.Command) *knobFlags {
	k := &knobFlags{values: map[string]*string{}}
	f := cmd.Flags()
	f.StringVarP(&k.file, "config", "c", "", "read knobs from `FILE`, mlxdyno.yaml or mlx-lm's own YAML; flags win over it")
	f.StringArrayVar(&k.sets, "set", nil, "set a knob, as `KNOB=VALUE`; may be repeated")
	defaults := trainer.DefaultConfig()
	for _, knob := range trainer.Knobs {
		v := new(string)
		k.values[knob.Name] = v
		usage := knob.Doc
		if d := knob.Get(&defaults); d != "" && !knob.IsSwitch {
			usage += fmt.Sprintf(" (default %s)", d)
		}
		f.StringVar(v, knob.Name, "", usage)
		flag := f.Lookup(knob.Name)
		flag.DefValue = ""
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
// returns the figures that a tuned file promises.
func (k *knobFlags) settings(cmd *cobra.Command) (trainer.Settings, *trainer.Expected, error) {
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
	}
	for _, knob := range trainer.Knobs {
		if !cmd.Flags().Changed(knob.Name) {
			continue
		}
		if err := s.Set(knob.Name, *k.values[knob.Name], trainer.FromFlag); err != nil {
			return s, nil, usagef("--%v", err)
		}
	}
	for _, set := range k.sets {
		name, value, ok := strings.Cut(set, "=")
		if !ok {
			return s, nil, usagef("--set %s: want KNOB=VALUE, such as --set rank=16", set)
		}
		if err := s.Set(name, value, trainer.FromFlag); err != nil {
			return s, nil, usagef("--set %v", err)
		}
	}
	// Workers have a working directory of their own.
	for _, p := range []*string{&s.Config.Model.Path, &s.Config.Data.Path} {
		if *p == "" || !pathLike(*p) {
			continue
		}
		if abs, err := filepath.Abs(*p); err == nil {
			*p = abs
		}
	}
	return s, expected, nil
}

// changed reports whether a flag or file value differs from what a tuned file
// promised its figures for, which makes the promise void.
func changed(s trainer.Settings) bool {
	for _, o := range s.Origins {
		if o == trainer.FromFlag {
			return true
		}
	}
	return false
}
