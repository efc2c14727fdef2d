package native

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"time"

	"github.com/mlxdyno/mlxdyno/mlxbind"
	"github.com/mlxdyno/mlxdyno/trainer"
	"github.com/mlxdyno/mlxdyno/trainer/checkpoint"
	"github.com/mlxdyno/mlxdyno/trainer/data"
)

// Files of a checkpoint, mlx-lm's where it has them.
const (
	adaptersFile  = "adapters.safetensors"
	adapterConfig = "adapter_config.json"
	optimizerFile = "optimizer.safetensors"
	stateFile     = "state.json"
)

// saved is state.json: what a checkpoint holds beside arrays.
type saved struct {
	Evaluated    *int          `json:"evaluated"`
	Surroundings surroundings  `json:"surroundings"`
	Order        order         `json:"order"`
	Position     data.Position `json:"position"`
	Key          [2]uint32     `json:"key"` // of MLX's random numbers
	Updates      int           `json:"updates"`
}

// differences names what is not as in a checkpoint.
func (s surroundings) differences(old surroundings) []string {
	var out []string
	for name, equal := range map[string]bool{
		"versions": maps.Equal(s.Versions, old.Versions), "device": reflect.DeepEqual(s.Device, old.Device),
		"BLAS": s.BLAS == old.BLAS, "threads": s.Threads == old.Threads, "compiled": s.Compiled == old.Compiled,
	} {
		if !equal {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

func damaged(dir string, err error) error {
	return fail(trainer.FailInternal, "checkpoint.damaged", "continue from an earlier one", "cannot read checkpoint %s: %v", dir, err)
}

func mismatch(dir, why string) error {
	return fail(trainer.FailConfig, "checkpoint.mismatch", "start a new training, or use the configuration it was made with", "checkpoint %s does not fit: %s", dir, why)
}

// publish makes the directory final appear at once, complete and durable. write
// fills it.
func publish(final string, write func(dir string) error) (err error) {
	parent := filepath.Dir(final)
	making, replaced := filepath.Join(parent, ".writing"), filepath.Join(parent, ".replaced")
	defer func() {
		if err != nil {
			os.RemoveAll(making)
			err = fail(trainer.FailInternal, "checkpoint.write", "check free space and permissions there", "cannot write %s: %v", final, err)
		}
	}()
	for _, old := range []string{making, replaced} {
		if err := os.RemoveAll(old); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(making, 0o755); err != nil {
		return err
	}
	if err := write(making); err != nil {
		return err
	}
	files, err := os.ReadDir(making)
	if err != nil {
		return err
	}
	for _, f := range files {
		if err := syncPath(filepath.Join(making, f.Name())); err != nil {
			return err
		}
	}
	if err := syncPath(making); err != nil {
		return err
	}
	if err := os.Rename(final, replaced); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Rename(making, final); err != nil {
		return err
	}
	if err := syncPath(parent); err != nil {
		return err
	}
	return os.RemoveAll(replaced)
}

// syncPath makes a file or directory durable; on macOS Go's Sync empties the
// drive's cache too.
func syncPath(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

func saveJSON(path string, v any) error {
	b, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(b, '\n'), 0o644)
}

// saveArrays writes a safetensors file and makes sure that all of it is there:
// MLX does not notice a full disk.
func saveArrays(s *mlxbind.Scope, path string, names []string, arrays []mlxbind.Array) error {
	all := make(map[string]mlxbind.Array, len(names))
	want := int64(0)
	for i, name := range names {
		all[name] = arrays[i]
		want += int64(s.Info(arrays[i]).Bytes)
	}
	err := s.Child(func(c *mlxbind.Scope) error { return c.SaveSafetensors(path, all) })
	if err != nil {
		return err
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	var header [8]byte
	if _, err := io.ReadFull(f, header[:]); err != nil {
		return fmt.Errorf("%s was not written in full", filepath.Base(path))
	}
	n := int64(0)
	for i := range header {
		n |= int64(header[i]) << (8 * i)
	}
	if info, err := f.Stat(); err != nil || info.Size() != 8+n+want {
		return fmt.Errorf("%s was not written in full", filepath.Base(path))
	}
	return nil
}

// adapterConfigOf is what mlx-lm's load_adapters and a reader want to know.
func adapterConfigOf(c trainer.Config) map[string]any {
	lora := map[string]any{"rank": c.Quality.Rank, "scale": c.Quality.Scale, "dropout": c.Quality.Dropout}
	if names := c.Quality.ModuleNames(); len(names) > 0 {
		lora["keys"] = names
	}
	out := map[string]any{
		"fine_tune_type": "lora", "model": c.Model.Path, "data": c.Data.Path, "mask_prompt": c.Data.MaskPrompt, "max_seq_length": c.Data.MaxSeqLength,
		"num_layers": c.Quality.Layers, "lora_parameters": lora, "learning_rate": c.Quality.LearningRate, "optimizer": c.Quality.Optimizer,
		"batch_size": c.Plan.Batch, "grad_accumulation_steps": c.Plan.Accumulation, "grad_checkpoint": c.Plan.Checkpointing,
		"iters": c.Schedule.Steps, "seed": c.Seed,
	}
	q := c.Quality
	if q.Optimizer == "adamw" && q.WeightDecay != trainer.DefaultWeightDecay {
		out["optimizer_config"] = map[string]any{"adamw": map[string]any{"weight_decay": float64(q.WeightDecay)}}
	}
	if q.LRSchedule.Decays() || q.Warmup > 0 {
		out["lr_schedule"] = scheduleOf(c)
	}
	if c.Model.Quantize > 0 {
		out["quantized_at_load"] = map[string]any{"bits": c.Model.Quantize, "group_size": c.Model.GroupSize}
	}
	return out
}

// scheduleOf is the schedule as mlx-lm's build_schedule takes it.
func scheduleOf(c trainer.Config) map[string]any {
	q := c.Quality
	out := map[string]any{"name": "exponential_decay", "arguments": []any{q.LearningRate, 1.0}}
	switch q.LRSchedule {
	case trainer.CosineRate:
		out = map[string]any{"name": "cosine_decay", "arguments": []any{q.LearningRate, c.DecayUpdates(), q.LREnd}}
	case trainer.LinearRate:
		out = map[string]any{"name": "linear_schedule", "arguments": []any{q.LearningRate, q.LREnd, c.DecayUpdates()}}
	}
	if q.Warmup > 0 {
		out["warmup"] = q.Warmup
	}
	return out
}

func (t *training) writeAdapter(dir string) error {
	l := t.learner
	if err := saveArrays(t.s, filepath.Join(dir, adaptersFile), l.model.AdapterNames(), l.adapters); err != nil {
		return err
	}
	return saveJSON(filepath.Join(dir, adapterConfig), adapterConfigOf(t.config))
}

// saveAdapter writes the adapter in mlx-lm's layout.
func (t *training) saveAdapter(dir string) error { return publish(dir, t.writeAdapter) }

// save writes a checkpoint and says so.
func (t *training) save() error {
	if t.saved == t.step {
		return nil
	}
	began, l := time.Now(), t.learner
	key, err := t.s.ReadUint32s(l.key)
	if err != nil {
		return err
	}
	state := saved{t.evaluated, t.said, t.order(), t.stream.Position(), [2]uint32(key), l.updates}
	final := filepath.Join(t.directory, "checkpoints", checkpoint.Name(t.step))
	manifest := checkpoint.Manifest{Schema: checkpoint.Schema, Step: t.step, ConfigKey: t.config.Key(), Engine: Name, Versions: t.said.Versions}
	err = publish(final, func(dir string) error {
		if err := t.writeAdapter(dir); err != nil {
			return err
		}
		names, arrays := l.optimizer.Names(l.model.AdapterNames()), l.state
		if len(names) > 0 {
			if err := saveArrays(t.s, filepath.Join(dir, optimizerFile), names, arrays); err != nil {
				return err
			}
		}
		if err := saveJSON(filepath.Join(dir, stateFile), state); err != nil {
			return err
		}
		if manifest.Files, err = describeFiles(dir); err != nil {
			return err
		}
		return saveJSON(filepath.Join(dir, checkpoint.ManifestName), manifest)
	})
	if err != nil {
		return err
	}
	t.saved = t.step
	return t.events.emit(trainer.Checkpoint{Ref: trainer.CheckpointRef{Step: t.step, Dir: final}, Bytes: manifest.Bytes(), Seconds: time.Since(began).Seconds()})
}

func describeFiles(dir string) ([]checkpoint.File, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var out []checkpoint.File
	for _, e := range entries {
		f, err := os.Open(filepath.Join(dir, e.Name()))
		if err != nil {
			return nil, err
		}
		sum := sha256.New()
		n, err := io.Copy(sum, f)
		f.Close()
		if err != nil {
			return nil, err
		}
		out = append(out, checkpoint.File{Name: e.Name(), Bytes: n, SHA256: hex.EncodeToString(sum.Sum(nil))})
	}
	return out, nil
}

// readCheckpoint puts adapters, optimizer and random numbers back.
func (t *training) readCheckpoint(dir string) (saved, error) {
	var state saved
	m, err := checkpoint.Read(dir)
	if err != nil {
		return state, damaged(dir, err)
	}
	if m.Engine != Name {
		return state, mismatch(dir, "the engine "+m.Engine+" made it")
	}
	b, err := os.ReadFile(filepath.Join(dir, stateFile))
	if err != nil {
		return state, damaged(dir, err)
	}
	if err := json.Unmarshal(b, &state); err != nil {
		return state, damaged(dir, err)
	}
	l := t.learner
	if l.adapters, err = t.readArrays(dir, adaptersFile, l.model.AdapterNames(), l.adapters, "its adapters are not those of this configuration"); err != nil {
		return state, err
	}
	const differs = "its optimizer is another one than this configuration's"
	names := l.optimizer.Names(l.model.AdapterNames())
	kept := slices.ContainsFunc(m.Files, func(f checkpoint.File) bool { return f.Name == optimizerFile })
	switch {
	case len(names) > 0:
		if l.state, err = t.readArrays(dir, optimizerFile, names, l.state, differs); err != nil {
			return state, err
		}
	case kept:
		return state, mismatch(dir, differs)
	}
	t.s.Free(l.key)
	l.key = t.s.Uint32s(state.Key[:], 2)
	l.updates = state.Updates
	return state, t.s.Err()
}

// readArrays returns the arrays of a file in the order of names, in place of old
// ones of the same shapes.
func (t *training) readArrays(dir, file string, names []string, old []mlxbind.Array, differs string) (out []mlxbind.Array, err error) {
	err = t.s.Child(func(c *mlxbind.Scope) error {
		all, err := c.LoadSafetensors(filepath.Join(dir, file))
		if err != nil {
			return damaged(dir, err)
		}
		if len(all) != len(names) {
			return mismatch(dir, differs)
		}
		for i, name := range names {
			a, ok := all[name]
			if !ok || !slices.Equal(c.Shape(a), c.Shape(old[i])) || c.DTypeOf(a) != c.DTypeOf(old[i]) {
				return mismatch(dir, differs)
			}
			out = append(out, a)
		}
		if err := c.Keep(out...); err != nil {
			return damaged(dir, err)
		}
		c.Free(old...)
		return nil
	})
	return out, err
}
