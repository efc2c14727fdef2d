package conformance

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mlxdyno/mlxdyno/trainer"
	"github.com/mlxdyno/mlxdyno/trainer/checkpoint"
)

// failures: what cannot be done is said in words that help.
func (s suite) failures(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(*trainer.Job)
		kind   trainer.FailKind
		code   string
		says   string
	}{
		"not finite": {func(j *trainer.Job) { j.Config.Quality.LearningRate, j.Config.Plan.Accumulation = 1e30, 1 },
			trainer.FailNonFinite, "nonfinite.loss", "the loss of step"},
		"no targets": {func(j *trainer.Job) { j.Config.Data.MaxSeqLength = 4 },
			trainer.FailNonFinite, "nonfinite.no-targets", "no token of the batch of step 1"},
		"too many layers": {func(j *trainer.Job) { j.Config.Quality.Layers = 4 },
			trainer.FailConfig, "config.layers", "on 4 blocks are asked for, but the model has 3"},
		"no such module": {func(j *trainer.Job) { j.Config.Quality.Modules, j.Config.Quality.Layers = "q_proj,self_attn.v_proj", 2 },
			trainer.FailConfig, "config.lora-modules", "have no module q_proj; they have mlp.down_proj, mlp.gate_proj, mlp.up_proj, self_attn.k_proj, self_attn.o_proj, self_attn.q_proj, self_attn.v_proj"},
		"too few rows": {func(j *trainer.Job) { j.Config.Plan.Batch = 27 },
			trainer.FailData, "data.too-few-rows", "27 rows cannot be made of 26"},
		"no token file": {func(j *trainer.Job) { j.Tokens.Train += "x" },
			trainer.FailData, "data.tokens", "cannot read token file"},
		"torn token file": {func(j *trainer.Job) { j.Tokens.Train = torn(t, j.Tokens.Train) },
			trainer.FailData, "data.tokens", "token file"},
		"half an update": {func(j *trainer.Job) { j.UntilStep = 3; j.Dir = os.DevNull },
			trainer.FailConfig, "config.until-step", "no multiple of 2"},
		"cannot write": {func(j *trainer.Job) { j.UntilStep = 2; j.Dir = os.DevNull },
			trainer.FailInternal, "checkpoint.write", "cannot write " + os.DevNull},
		"no checkpoint": {func(j *trainer.Job) { j.From = &trainer.CheckpointRef{Step: 2, Dir: j.Config.Model.Path} },
			trainer.FailInternal, "checkpoint.damaged", "cannot read checkpoint"},
		"no model": {func(j *trainer.Job) { j.Config.Model.Path += "/nothing" },
			trainer.FailConfig, "model.missing", "nothing"},
		"wired limit": {func(j *trainer.Job) { j.Config.Plan.WiredLimit = trainer.LimitOf(1 << 50) },
			trainer.FailConfig, "config.wired-limit", fmt.Sprint("MLX refuses a wired limit of ", 1<<50)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			j := s.job()
			tt.change(&j)
			r, sum := s.run(t, t.Context(), j, nil)
			if name == "wired limit" && r.Outcome == trainer.Finished && r.Hello.Device.Kind != "metal" {
				return // there is nothing to wire
			}
			expectFailure(t, r, tt.kind, tt.code, tt.says)
			if n := len(sum.Steps); tt.kind == trainer.FailNonFinite && (n == 0 || sum.Steps[n-1].Loss.Finite()) {
				t.Errorf("the step that failed was not told: %d steps", n)
			}
		})
	}
}

// torn returns a copy of a file without its second half.
func torn(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(t.TempDir(), filepath.Base(path))
	if err := os.WriteFile(path, b[:len(b)/2], 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// damagedCheckpoints: what a checkpoint lacks, or belongs to something else, is
// found before a step is trained.
func (s suite) damagedCheckpoints(t *testing.T) {
	t.Parallel()
	j := s.job()
	j.Dir, j.UntilStep = t.TempDir(), 2
	r, _ := s.finish(t, j)
	good := *r.Checkpoint
	for name, tt := range map[string]struct {
		file   string // cut in half; removed when it begins with -
		change func(*trainer.Config)
		kind   trainer.FailKind
		code   string
	}{
		"half of the adapters":  {"adapters.safetensors", nil, trainer.FailInternal, "checkpoint.damaged"},
		"half of the optimizer": {"optimizer.safetensors", nil, trainer.FailInternal, "checkpoint.damaged"},
		"half of the state":     {"state.json", nil, trainer.FailInternal, "checkpoint.damaged"},
		"no optimizer":          {"-optimizer.safetensors", nil, trainer.FailInternal, "checkpoint.damaged"},
		"another rank":          {"", func(c *trainer.Config) { c.Quality.Rank = 5 }, trainer.FailConfig, "checkpoint.mismatch"},
		"other modules":         {"", func(c *trainer.Config) { c.Quality.Modules = "mlp.up_proj" }, trainer.FailConfig, "checkpoint.mismatch"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			j := j
			j.From, j.Segment, j.UntilStep, j.Dir = &trainer.CheckpointRef{Step: 2, Dir: filepath.Join(t.TempDir(), filepath.Base(good.Dir))}, 1, 4, t.TempDir()
			if err := os.CopyFS(j.From.Dir, os.DirFS(good.Dir)); err != nil {
				t.Fatal(err)
			}
			if tt.change != nil {
				tt.change(&j.Config)
			}
			var err error
			if name, ok := strings.CutPrefix(tt.file, "-"); ok {
				err = os.Remove(filepath.Join(j.From.Dir, name))
			} else if name != "" {
				path := filepath.Join(j.From.Dir, name)
				var info os.FileInfo
				if info, err = os.Stat(path); err == nil {
					err = os.Truncate(path, info.Size()/2)
				}
			}
			if err != nil {
				t.Fatal(err)
			}
			r, sum := s.run(t, t.Context(), j, nil)
			expectFailure(t, r, tt.kind, tt.code, j.From.Dir)
			if len(sum.Steps) > 0 {
				t.Errorf("%d steps were trained", len(sum.Steps))
			}
		})
	}
}

// fullDisk lets no file grow beyond a size that the optimizer's exceeds. The
// checkpoint before stays good, and a training goes on from it.
func (s suite) fullDisk(t *testing.T) {
	t.Parallel()
	j := s.job()
	j.Dir, j.UntilStep = t.TempDir(), 4
	root := filepath.Join(j.Dir, "checkpoints")
	r, _ := s.finish(t, j)
	size := func(name string) int64 {
		info, err := os.Stat(filepath.Join(r.Checkpoint.Dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return info.Size()
	}
	small, large := size("adapters.safetensors"), size("optimizer.safetensors")
	j.From, j.Segment, j.UntilStep = r.Checkpoint, 1, 16
	p, err := s.engine.Process(j)
	if err != nil {
		t.Fatal(err)
	}
	limited := p
	limited.Argv = append([]string{"/bin/sh", "-c", fmt.Sprintf(`ulimit -f %d && exec "$@"`, (small+large)/2/512), "sh"}, p.Argv...)
	r, sum := runProcess(t, t.Context(), limited, j, nil)
	expectFailure(t, r, trainer.FailInternal, "checkpoint.write", "cannot write "+root)
	if !strings.Contains(r.Failure.Hint, "space") || len(sum.Steps) == 0 {
		t.Errorf("after %d steps: %s", len(sum.Steps), r.Failure.Hint)
	}
	newest, bad, err := checkpoint.Newest(root)
	if err != nil || len(bad) > 0 || newest == nil || newest.Step != 4 {
		t.Fatalf("left is %+v, damaged %v: %v", newest, bad, err)
	}
	if files, err := os.ReadDir(root); err != nil || len(files) != 1 {
		t.Errorf("left behind: %v %v", files, err)
	}
	j.Segment = 2
	if r, _ := s.finish(t, j); r.Checkpoint.Step != 16 || r.Done.Adapter == "" {
		t.Errorf("with room again: %+v", r)
	}
}
