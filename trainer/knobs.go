package trainer

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// Knob is one value of a Config that a person or the tuner may turn. The table
// Knobs is the only list of them: flags, --set, mlxdyno.yaml, adapters to other
// trainers and the search space are all made from it.
type Knob struct {
	Name      string   // flag and --set name
	MLXLMKey  string   // key in mlx-lm's YAML, dotted when nested; empty if mlx-lm has none
	Unit      string   // unit of the value; empty for names and switches
	Doc       string   // one sentence
	Quality   bool     // changes what is learned, so that the tuner asks first
	Choices   []string // the only values, when they are few
	IsSwitch  bool     // true or false
	Get       func(*Config) string
	Set       func(*Config, string) error
	YAMLValue func(*Config) any // the value as YAML should carry it
}

// Key is the knob's place in mlxdyno.yaml: mlx-lm's key at the top level, or
// its own name with underscores under "mlxdyno:".
func (k Knob) Key() string {
	if k.MLXLMKey != "" {
		return k.MLXLMKey
	}
	return "mlxdyno." + strings.ReplaceAll(k.Name, "-", "_")
}

// Knobs is the table, in the order in which people meet the knobs.
var Knobs = []Knob{
	text("model", "model", "Directory of the base model in Hugging Face layout", func(c *Config) *string { return &c.Model.Path }),
	text("data", "data", "Directory with train.jsonl and valid.jsonl, or one .jsonl file", func(c *Config) *string { return &c.Data.Path }),
	text("engine", "", "What trains: mlxdyno's own trainer on MLX, or mlx-lm's", func(c *Config) *string { return &c.Engine }, EngineNative, EngineMLXLM),
	quality(toggle("parity", "", "Reproduce mlx-lm step by step, its defects included", func(c *Config) *bool { return &c.Parity })),
	quality(integer("quantize", "", "bits", "Quantize the base at load to this many bits; 0 keeps it as stored", func(c *Config) *int { return &c.Model.Quantize }, "0", "2", "3", "4", "5", "6", "8")),
	quality(integer("group-size", "", "weights", "Weights that share one scale when quantizing at load", func(c *Config) *int { return &c.Model.GroupSize }, "32", "64", "128")),
	quality(toggle("mask-prompt", "mask_prompt", "Count only the completion in the loss", func(c *Config) *bool { return &c.Data.MaskPrompt })),
	quality(integer("max-seq-length", "max_seq_length", "tokens", "Cut rows longer than this", func(c *Config) *int { return &c.Data.MaxSeqLength })),
	toggle("group-by-length", "", "Put rows of like length into one batch, which saves padding", func(c *Config) *bool { return &c.Data.GroupByLength }),
	quality(integer("rank", "lora_parameters.rank", "", "Rank of the adapters", func(c *Config) *int { return &c.Quality.Rank })),
	quality(number("scale", "lora_parameters.scale", "", "Factor on the low-rank path; alpha is scale × rank", func(c *Config) *float64 { return &c.Quality.Scale })),
	quality(number("dropout", "lora_parameters.dropout", "", "Dropout before the low-rank path", func(c *Config) *float64 { return &c.Quality.Dropout })),
	quality(integer("num-layers", "num_layers", "blocks", "Put adapters on the last N blocks; -1 for all", func(c *Config) *int { return &c.Quality.Layers })),
	modulesKnob(),
	quality(number("learning-rate", "learning_rate", "", "Learning rate", func(c *Config) *float64 { return &c.Quality.LearningRate })),
	quality(text("optimizer", "optimizer", "Optimizer", func(c *Config) *string { return &c.Quality.Optimizer }, "adam", "adamw", "sgd", "adafactor", "muon")),
	quality(text("lr-schedule", "lr_schedule.name", "How the learning rate moves: it stays, or falls to lr-end by the last update", func(c *Config) *string { return (*string)(&c.Quality.LRSchedule) }, string(ConstantRate), string(CosineRate), string(LinearRate))),
	quality(integer("warmup", "lr_schedule.warmup", "updates", "Optimizer updates over which the learning rate rises from 0 first", func(c *Config) *int { return &c.Quality.Warmup })),
	quality(number("lr-end", "lr_schedule.arguments", "", "Learning rate at the end of a cosine or linear schedule", func(c *Config) *float64 { return &c.Quality.LREnd })),
	quality(number("weight-decay", "optimizer_config.adamw.weight_decay", "", "Weight decay of adamw", func(c *Config) *float64 { return (*float64)(&c.Quality.WeightDecay) })),
	quality(number("grad-clip", "", "", "Scale gradients down to at most this global norm; 0 for never", func(c *Config) *float64 { return &c.Quality.GradClip })),
	integer("batch-size", "batch_size", "rows", "Rows a step", func(c *Config) *int { return &c.Plan.Batch }),
	integer("grad-accumulation-steps", "grad_accumulation_steps", "steps", "Steps to one optimizer update", func(c *Config) *int { return &c.Plan.Accumulation }),
	toggle("grad-checkpoint", "grad_checkpoint", "Recompute activations in the backward pass: less memory, more time", func(c *Config) *bool { return &c.Plan.Checkpointing }),
	text("compile", "", "Compile the step; auto compiles on a GPU only", func(c *Config) *string { return &c.Plan.Compile }, "auto", "on", "off"),
	automatic("matmul", "Multiply with a quantized base as it is packed, or with dense matrices made of it; auto takes what is faster on this kind of machine", func(c *Config) *string { return &c.Plan.Matmul }, MatmulQuantized, MatmulDequantized),
	automatic("low-rank", "Compute the low-rank path in the activations' dtype, from float32 masters, or in float32; auto takes what is faster", func(c *Config) *string { return &c.Plan.LowRank }, LowRankActivation, LowRankFloat32),
	automatic("loss-positions", "Compute scores of the vocabulary at supervised positions only, or at all; auto takes what is faster", func(c *Config) *string { return &c.Plan.LossPositions }, LossSupervised, LossAll),
	automatic("step-by", "Compute a step block by block, where each keeps what its backward pass reads, or as a whole, as mlx-lm does", func(c *Config) *string { return &c.Plan.StepBy }, StepByBlocks, StepByWhole),
	automatic("keep", "Of a step by blocks, keep all results that the backward pass reads, or products alone and compute the rest again: less memory", func(c *Config) *string { return &c.Plan.Keep }, KeepResults, KeepProducts),
	integer("grad-checkpoint-nth", "", "blocks", "With --grad-checkpoint, recompute every so many blocks only; 0 for each", func(c *Config) *int { return &c.Plan.CheckpointNth }),
	integer("loss-rows", "", "positions", "Positions whose scores of the vocabulary are computed at once; 0 for the engine's choice", func(c *Config) *int { return &c.Plan.LossRows }),
	automatic("packing", "Lay the rows of a batch end to end, which leaves no padding; auto does where steps are not compiled", func(c *Config) *string { return &c.Plan.Packing }, PackingOn, PackingOff),
	integer("max-shapes", "", "shapes", "Batch shapes that rows grouped by length may make, each of which a compiled step is traced for; 0 for any number", func(c *Config) *int { return (*int)(&c.Plan.MaxShapes) }),
	limit("memory-limit", "", "MLX's memory limit, a guideline above which it waits and drops its cache", func(c *Config) *Limit { return &c.Plan.MemoryLimit }),
	limit("cache-limit", "", "Freed memory that MLX may keep; by default mlx-lm clears it every step, and ours keeps a thirty-second of a GPU's memory, 4 GiB at most", func(c *Config) *Limit { return &c.Plan.CacheLimit }),
	limit("wired-limit", "", "Memory that macOS must not page out; default is mlx-lm's choice", func(c *Config) *Limit { return &c.Plan.WiredLimit }),
	integer("iters", "iters", "steps", "Training steps, each one batch", func(c *Config) *int { return &c.Schedule.Steps }),
	integer("steps-per-eval", "steps_per_eval", "steps", "Steps between validations", func(c *Config) *int { return &c.Schedule.EvalEvery }),
	integer("val-batches", "val_batches", "batches", "Validation batches; -1 for all", func(c *Config) *int { return &c.Schedule.ValBatches }),
	integer("save-every", "save_every", "steps", "Steps between checkpoints", func(c *Config) *int { return &c.Schedule.SaveEvery }),
	integer("reload-interval", "", "steps", "Restart the worker process after so many steps; 0 for never", func(c *Config) *int { return &c.Schedule.ReloadInterval }),
	seedKnob(),
	text("adapter-path", "adapter_path", "Where the finished adapter goes too; it always stays with its run", func(c *Config) *string { return &c.Output.AdapterPath }),
}

// Turn is a knob set to a value.
type Turn struct {
	Knob  string `json:"knob"`
	Value string `json:"value"`
}

func (t Turn) String() string { return t.Knob + "=" + t.Value }

// FindKnob returns the knob of that name.
func FindKnob(name string) (Knob, bool) {
	i := slices.IndexFunc(Knobs, func(k Knob) bool { return k.Name == name })
	if i < 0 {
		return Knob{}, false
	}
	return Knobs[i], true
}

// nearestKnob is the knob that is likely meant by a name or a key that is none: one
// that no more than a third of its letters tell from it.
func nearestKnob(name string) (nearest Knob, ok bool) {
	plain := func(key string) string {
		return strings.ReplaceAll(strings.ToLower(key[strings.LastIndexByte(key, '.')+1:]), "_", "-")
	}
	name = plain(name)
	least := max(len(name)/3, 1) + 1
	for _, k := range Knobs {
		if d := min(edits(name, k.Name), edits(name, plain(k.Key()))); d < least {
			nearest, least, ok = k, d, true
		}
	}
	return nearest, ok
}

// edits is how many letters must be put in, taken out, changed or swapped with their
// neighbour to make b of a (Damerau and Levenshtein, without edits of what was swapped).
func edits(a, b string) int {
	before, last := []int(nil), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := range len(a) {
		next := make([]int, len(b)+1)
		next[0] = i + 1
		for j := range len(b) {
			change := last[j]
			if a[i] != b[j] {
				change++
			}
			next[j+1] = min(last[j+1]+1, next[j]+1, change)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				next[j+1] = min(next[j+1], before[j-1]+1)
			}
		}
		before, last = last, next
	}
	return last[len(b)]
}

// Origin says where a knob's value came from. A later origin in the order
// default, tuned, file, flag wins over an earlier one.
type Origin string

const (
	FromDefault Origin = "default"
	FromTuned   Origin = "tuned"
	FromFile    Origin = "file"
	FromFlag    Origin = "flag"
)

// Settings is a configuration that remembers who set each knob.
type Settings struct {
	Config  Config
	Origins map[string]Origin // by knob name; a knob that is absent has its default
}

// NewSettings returns the defaults.
func NewSettings() Settings {
	return Settings{Config: DefaultConfig(), Origins: map[string]Origin{}}
}

// Set turns one knob and notes the origin.
func (s *Settings) Set(name, value string, from Origin) error {
	k, ok := FindKnob(name)
	if !ok {
		if near, ok := nearestKnob(name); ok {
			return fmt.Errorf("no knob is called %q; did you mean %s?", name, near.Name)
		}
		return fmt.Errorf("no knob is called %q; see mlxdyno train --help", name)
	}
	if err := k.Set(&s.Config, value); err != nil {
		return err
	}
	s.Origins[name] = from
	return nil
}

// Origin returns who set the knob.
func (s Settings) Origin(name string) Origin {
	if o, ok := s.Origins[name]; ok {
		return o
	}
	return FromDefault
}

func quality(k Knob) Knob { k.Quality = true; return k }

// automaticValue leaves a choice to the engine. In a Config it is the empty
// string, so that configurations from before there was a choice keep their key.
const automaticValue = "auto"

func automatic(name, doc string, at func(*Config) *string, choices ...string) Knob {
	k := text(name, "", doc, at, append([]string{automaticValue}, choices...)...)
	set := k.Set
	k.Get = func(c *Config) string { return cmp.Or(*at(c), automaticValue) }
	k.Set = func(c *Config, s string) error {
		if s == automaticValue {
			*at(c) = ""
			return nil
		}
		return set(c, s)
	}
	k.YAMLValue = func(c *Config) any { return k.Get(c) }
	return k
}

func text(name, key, doc string, at func(*Config) *string, choices ...string) Knob {
	return Knob{Name: name, MLXLMKey: key, Doc: doc, Choices: choices,
		Get: func(c *Config) string { return *at(c) },
		Set: func(c *Config, s string) error {
			if err := oneOf(name, s, choices); err != nil {
				return err
			}
			*at(c) = s
			return nil
		},
		YAMLValue: func(c *Config) any { return *at(c) }}
}

func integer(name, key, unit, doc string, at func(*Config) *int, choices ...string) Knob {
	return Knob{Name: name, MLXLMKey: key, Unit: unit, Doc: doc, Choices: choices,
		Get: func(c *Config) string { return strconv.Itoa(*at(c)) },
		Set: func(c *Config, s string) error {
			if err := oneOf(name, s, choices); err != nil {
				return err
			}
			v, err := strconv.Atoi(s)
			if err != nil {
				return fmt.Errorf("%s: %q is not a whole number", name, s)
			}
			*at(c) = v
			return nil
		},
		YAMLValue: func(c *Config) any { return *at(c) }}
}

func number(name, key, unit, doc string, at func(*Config) *float64) Knob {
	return Knob{Name: name, MLXLMKey: key, Unit: unit, Doc: doc,
		Get: func(c *Config) string { return strconv.FormatFloat(*at(c), 'g', -1, 64) },
		Set: func(c *Config, s string) error {
			v, err := strconv.ParseFloat(s, 64)
			if err != nil || math.IsNaN(v) || math.IsInf(v, 0) {
				return fmt.Errorf("%s: %q is not a finite number", name, s)
			}
			*at(c) = v
			return nil
		},
		YAMLValue: func(c *Config) any { return *at(c) }}
}

func toggle(name, key, doc string, at func(*Config) *bool) Knob {
	return Knob{Name: name, MLXLMKey: key, Doc: doc, IsSwitch: true, Choices: []string{"true", "false"},
		Get: func(c *Config) string { return strconv.FormatBool(*at(c)) },
		Set: func(c *Config, s string) error {
			v, err := strconv.ParseBool(s)
			if err != nil {
				return fmt.Errorf("%s: %q is not true or false", name, s)
			}
			*at(c) = v
			return nil
		},
		YAMLValue: func(c *Config) any { return *at(c) }}
}

func limit(name, key, doc string, at func(*Config) *Limit) Knob {
	return Knob{Name: name, MLXLMKey: key, Unit: "bytes", Doc: doc,
		Get: func(c *Config) string { // exact, so that Set reads back the same limit
			if l := *at(c); l.IsSet {
				return strconv.FormatInt(l.Bytes, 10)
			}
			return "default"
		},
		Set: func(c *Config, s string) error {
			v, err := ParseLimit(s)
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			*at(c) = v
			return nil
		},
		YAMLValue: func(c *Config) any {
			if l := *at(c); l.IsSet {
				return l.Bytes
			}
			return "default"
		}}
}

func seedKnob() Knob {
	return Knob{Name: "seed", MLXLMKey: "seed", Doc: "Seed of every random choice", Quality: true,
		Get: func(c *Config) string { return strconv.FormatUint(c.Seed, 10) },
		Set: func(c *Config, s string) error {
			v, err := strconv.ParseUint(s, 10, 32) // numpy's seeds have 32 bits
			if err != nil {
				return fmt.Errorf("seed: %q is not a whole number from 0 to 4294967295", s)
			}
			c.Seed = v
			return nil
		},
		YAMLValue: func(c *Config) any { return c.Seed }}
}

// modulesKnob takes names in any order and keeps them sorted, so that the same
// modules make the same configuration.
func modulesKnob() Knob {
	return Knob{Name: "lora-modules", MLXLMKey: "lora_parameters.keys", Quality: true,
		Doc: "Modules of a block that get adapters, as self_attn.q_proj,self_attn.v_proj; empty for all linear ones",
		Get: func(c *Config) string { return c.Quality.Modules },
		Set: func(c *Config, s string) error {
			var names []string
			if s != "" {
				names = strings.Split(s, ",")
			}
			for i, name := range names {
				if names[i] = strings.TrimSpace(name); names[i] == "" {
					return fmt.Errorf("lora-modules: a name is empty in %q", s)
				}
			}
			slices.Sort(names)
			c.Quality.Modules = strings.Join(slices.Compact(names), ",")
			return nil
		},
		YAMLValue: func(c *Config) any { return c.Quality.ModuleNames() }}
}

func oneOf(name, s string, choices []string) error {
	if len(choices) == 0 || slices.Contains(choices, s) {
		return nil
	}
	return fmt.Errorf("%s: %q is not one of %s", name, s, strings.Join(choices, ", "))
}
