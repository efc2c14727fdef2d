package fake

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/mlxdyno/mlxdyno/trainer"
	"github.com/mlxdyno/mlxdyno/trainer/checkpoint"
)

const stateName = "state.json"

// state is what a checkpoint of the fake holds.
type state struct {
	Step int           `json:"step"`
	Loss trainer.Float `json:"loss"`
}

// save writes a checkpoint, unless there is one of this step or none is wanted.
func (p *player) save() {
	if p.job.Dir == "" || len(p.job.Shapes) > 0 || p.saved == p.step {
		return
	}
	start := time.Now()
	dir := filepath.Join(p.job.Dir, "checkpoints", checkpoint.Name(p.step))
	text := p.mustJSON(state{Step: p.step, Loss: p.loss()})
	sum := sha256.Sum256(text)
	manifest := checkpoint.Manifest{
		Schema: checkpoint.Schema, Step: p.step, ConfigKey: p.job.Config.Key(), Engine: "fake",
		Files: []checkpoint.File{{Name: stateName, Bytes: int64(len(text)), SHA256: hex.EncodeToString(sum[:])}},
	}
	p.writeDir(dir, map[string][]byte{stateName: text, checkpoint.ManifestName: p.mustJSON(manifest)})
	p.saved = p.step
	p.emit(trainer.Checkpoint{Ref: trainer.CheckpointRef{Step: p.step, Dir: dir}, Bytes: int64(len(text)), Seconds: time.Since(start).Seconds()})
}

// restore goes on from the job's checkpoint.
func (p *player) restore() {
	var s state
	text, err := os.ReadFile(filepath.Join(p.job.From.Dir, stateName))
	if err == nil {
		err = json.Unmarshal(text, &s)
	}
	if err == nil && s.Step != p.job.From.Step {
		err = fmt.Errorf("it is of step %d, not %d", s.Step, p.job.From.Step)
	}
	if err != nil {
		p.fail(trainer.FailConfig, "checkpoint.unreadable", fmt.Sprintf("read checkpoint %s: %v", p.job.From.Dir, err))
	}
	p.step, p.saved = s.Step, s.Step
}

func (p *player) writeAdapter() string {
	dir := filepath.Join(p.job.Dir, "adapter")
	p.writeDir(dir, map[string][]byte{
		"adapters.safetensors": []byte("\x02\x00\x00\x00\x00\x00\x00\x00{}"),
		"adapter_config.json":  p.mustJSON(map[string]any{"fine_tune_type": "lora", "num_layers": p.job.Config.Quality.Layers}),
	})
	return dir
}

// writeDir makes a directory with files appear at once.
func (p *player) writeDir(dir string, files map[string][]byte) {
	unfinished := dir + ".tmp"
	err := os.MkdirAll(unfinished, 0o755)
	for name, text := range files {
		if err == nil {
			err = os.WriteFile(filepath.Join(unfinished, name), text, 0o644)
		}
	}
	if err == nil {
		err = os.RemoveAll(dir)
	}
	if err == nil {
		err = os.Rename(unfinished, dir)
	}
	if err != nil {
		p.fail(trainer.FailInternal, "files.unwritable", fmt.Sprintf("write %s: %v", dir, err))
	}
}

func (p *player) mustJSON(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		p.fail(trainer.FailInternal, "files.unwritable", err.Error())
	}
	return b
}
