package trainer

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestReadFileTakesSchedules(t *testing.T) {
	tests := []struct {
		name, text string
		want       func(*Config)
	}{
		{"cosine to 0", "iters: 600\nlr_schedule: {name: cosine_decay, arguments: [2e-5, 600]}\n", func(c *Config) {
			c.Quality.LearningRate, c.Quality.LRSchedule = 2e-5, CosineRate
		}},
		{"cosine after a warm-up, before what it depends on", "lr_schedule:\n  warmup: 100\n  warmup_init: 0.0\n  arguments: [2e-5, 200, 1e-7]\n  name: cosine_decay\nlearning_rate: 0.00002\niters: 601\ngrad_accumulation_steps: 2\n", func(c *Config) {
			c.Quality.LearningRate, c.Quality.LRSchedule, c.Quality.Warmup, c.Quality.LREnd = 2e-5, CosineRate, 100, 1e-7
			c.Schedule.Steps, c.Plan.Accumulation = 601, 2
		}},
		{"line", "iters: 600\nlr_schedule: {name: linear_schedule, arguments: [1, 0, 600]}\n", func(c *Config) {
			c.Quality.LearningRate, c.Quality.LRSchedule = 1, LinearRate
		}},
		{"warm-up alone", "iters: 600\nlr_schedule: {name: exponential_decay, arguments: [2e-5, 1], warmup: 7}\n", func(c *Config) {
			c.Quality.LearningRate, c.Quality.Warmup = 2e-5, 7
		}},
		{"none", "iters: 600\nlr_schedule: null\n", func(*Config) {}},
		{"modules and decay", "iters: 600\nlora_parameters: {keys: [self_attn.v_proj, self_attn.q_proj]}\noptimizer_config: {adam: null, adamw: {weight_decay: 0}}\n", func(c *Config) {
			c.Quality.Modules, c.Quality.WeightDecay = "self_attn.q_proj,self_attn.v_proj", 0
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f, err := parseFile([]byte(tt.text))
			if err != nil {
				t.Fatal(err)
			}
			want := DefaultConfig()
			want.Schedule.Steps = 600
			tt.want(&want)
			if d := cmp.Diff(want, f.Settings.Config); d != "" {
				t.Error(d)
			}
		})
	}
}

// TestWriteFileSpeaksMLXLM: what mlx-lm calls otherwise stands in its own keys.
func TestWriteFileSpeaksMLXLM(t *testing.T) {
	f := File{Settings: NewSettings()}
	c := &f.Settings.Config
	c.Quality.LearningRate, c.Quality.LRSchedule, c.Quality.Warmup, c.Quality.LREnd = 2e-5, CosineRate, 100, 1e-6
	c.Quality.Optimizer, c.Quality.WeightDecay, c.Quality.Modules, c.Quality.GradClip = "adamw", 0, "self_attn.q_proj,self_attn.v_proj", 1
	c.Schedule.Steps, c.Plan.Accumulation = 1000, 2
	text := func() string {
		b, err := f.encode(map[string]string{"lr-schedule": "as asked"})
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	got := text()
	for _, want := range []string{
		"# as asked\nlr_schedule:\n  name: \"cosine_decay\"\n  arguments: [2e-05, 400, 1e-06]\n  warmup: 100\n",
		"optimizer_config:\n  adamw:\n    weight_decay: 0.0\n", "  keys: [\"self_attn.q_proj\", \"self_attn.v_proj\"]\n",
		"  grad_clip: 1.0\n", "# mlx_lm.lora does not clip gradients",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	c.Quality.LRSchedule, c.Quality.Warmup = LinearRate, 0
	if got, want := text(), "  name: \"linear_schedule\"\n  arguments: [2e-05, 1e-06, 500]\n"; !strings.Contains(got, want) {
		t.Errorf("no %q in\n%s", want, got)
	}
	c.Quality.LRSchedule, c.Quality.Warmup = ConstantRate, 7
	if got, want := text(), "  name: \"exponential_decay\"\n  arguments: [2e-05, 1.0]\n  warmup: 7\n"; !strings.Contains(got, want) {
		t.Errorf("no %q in\n%s", want, got)
	}
	f.Settings = NewSettings()
	for _, key := range []string{"lr_schedule", "optimizer_config", "keys:", "clip gradients"} {
		if got := text(); strings.Contains(got, key) {
			t.Errorf("%s stands in the file of the defaults:\n%s", key, got)
		}
	}
}

// TestReadFileLosesNoSchedule: what a file says and a configuration cannot is
// refused in words.
func TestReadFileLosesNoSchedule(t *testing.T) {
	tests := []struct{ name, text, want string }{
		{"half a schedule", "iters: 9\nlr_schedule: {name: cosine_decay}\n", "line 2: lr_schedule: want a name and a list of arguments"},
		{"no list", "lr_schedule: {name: cosine_decay, arguments: 3}\n", "want a name and a list of arguments"},
		{"no schedule", "lr_schedule: cosine_decay\n", "want a mapping"},
		{"a schedule of steps", "lr_schedule: {name: step_decay, arguments: [1e-5, 0.9, 10]}\n", `"step_decay" is not honoured here; use cosine_decay or linear_schedule`},
		{"a rate that dies away", "lr_schedule: {name: exponential_decay, arguments: [1e-5, 0.9]}\n", "with the factor 1 only"},
		{"another length", "iters: 600\ngrad_accumulation_steps: 2\nlr_schedule: {name: cosine_decay, arguments: [2e-5, 600, 1e-6], warmup: 100}\n", "600 updates to the end, but iters / grad_accumulation_steps less warmup are 200; make it [2e-05, 200, 1e-06]"},
		{"another length of a line", "iters: 600\nlr_schedule: {name: linear_schedule, arguments: [2e-5, 0, 500]}\n", "make it [2e-05, 0.0, 600]"},
		{"half an update", "iters: 4\nlr_schedule: {name: linear_schedule, arguments: [2e-5, 0, 4.0]}\n", "4.0 updates to the end"},
		{"two rates", "iters: 9\nlr_schedule: {name: cosine_decay, arguments: [2e-5, 9]}\nlearning_rate: 1e-5\n", "line 2: lr_schedule.arguments: mlx-lm would start at 2e-05, but learning_rate is 1e-05"},
		{"too many arguments", "iters: 9\nlr_schedule: {name: cosine_decay, arguments: [2e-5, 9, 0, 1]}\n", "cosine_decay takes 3 values here, and there are 4"},
		{"too few arguments", "iters: 9\nlr_schedule: {name: linear_schedule, arguments: [2e-5, 9]}\n", "linear_schedule takes 3 values here, and there are 2"},
		{"a word for a rate", "iters: 9\nlr_schedule: {name: cosine_decay, arguments: [fast, 9]}\n", `"fast" is not a number`},
		{"no rate", "iters: 9\nlr_schedule: {name: cosine_decay, arguments: [.nan, 9]}\n", "not a finite number"},
		{"a warm-up from elsewhere", "iters: 9\nlr_schedule: {name: cosine_decay, arguments: [2e-5, 7], warmup: 2, warmup_init: 1e-7}\n", "a warm-up begins at 0 here, not at 1e-7"},
		{"half a warm-up", "lr_schedule: {name: cosine_decay, arguments: [2e-5, 7], warmup: 2.5}\n", `lr_schedule.warmup: "2.5" is not a whole number`},
		{"a warm-up backwards", "lr_schedule: {name: cosine_decay, arguments: [2e-5, 7], warmup: -2}\n", `lr_schedule.warmup: "-2" is not a whole number`},
		{"a schedule twice", "lr_schedule: {name: cosine_decay, name: linear_schedule}\n", "name"},
		{"alias in a schedule", "learning_rate: &r 1e-5\nlr_schedule: {name: cosine_decay, arguments: [*r, 1000]}\n", "is not a number"},
		{"schedule in another place", "lr-schedule: cosine\n", "did you mean lr_schedule.name?"},
		{"no modules", "lora_parameters:\n  keys: []\n", "line 2: lora_parameters.keys: want a list of names"},
		{"modules in a text", "lora_parameters:\n  keys: self_attn.q_proj\n", "want a list of names"},
		{"modules in one text", "lora_parameters:\n  keys: ['a,b']\n", "want one name an entry"},
		{"numbers for modules", "lora_parameters:\n  keys: [7]\n", "want one name an entry"},
		{"optimizer's own", "optimizer_config:\n  adam: {betas: [0.9, 0.95]}\n", "line 2: mlx-lm's key optimizer_config.adam is not honoured"},
		{"adamw's own", "optimizer_config:\n  adamw: {weight_decay: 0.1, bias_correction: true}\n", "optimizer_config.adamw.bias_correction is not honoured"},
		{"text for a decay", "optimizer_config:\n  adamw: {weight_decay: little}\n", "is not a number"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := parseFile([]byte(tt.text)); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("error %v, want one with %q", err, tt.want)
			}
		})
	}
}
