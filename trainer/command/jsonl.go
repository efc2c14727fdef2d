package command

import "github.com/mlxdyno/mlxdyno/trainer"

// JSONLines reads metrics files: one JSON object a line, with a step and
// something that it measured, under the names that are in common use.
func JSONLines() Adapter {
	return Adapter{Name: "jsonl", New: func() Parser { return jsonLines{} }}
}

type jsonLines struct{}

func (jsonLines) Parse(line string) ([]Reading, Match) {
	o, ok := parseObject(line)
	if !ok {
		return nil, NoMatch
	}
	r := o.reading()
	if !r.measured() {
		return nil, NoMatch
	}
	if !r.Step.Known() || !r.Loss.Known() && !r.ValLoss.Known() && len(r.Memory) == 0 {
		return one(r, NoMatch) // no evidence of metrics, but what it says may be used
	}
	return one(r, Plausible)
}

// reading takes from an object what has a name in common use.
func (o object) reading() Reading {
	r := Reading{
		Loss:            optFloat(o.first("loss", "train_loss", "training_loss", "loss_train")),
		AverageLoss:     optFloat(o.first("avg_loss", "average_loss", "mean_loss", "smoothed_loss")),
		ValLoss:         optFloat(o.first("val_loss", "valid_loss", "validation_loss", "eval_loss", "loss_val", "loss_eval")),
		ValSeconds:      optRate(o.first("val_time", "eval_runtime", "val_seconds")),
		LearningRate:    optFloat(o.first("lr", "learning_rate", "train_lr", "train_learning_rate")),
		TokensPerSecond: optRate(o.first("tokens_per_second", "tokens_per_sec", "tokens_sec", "tok_s", "toks_s", "tokens_s", "tps", "train_tokens_per_second")),
		StepsPerSecond:  optRate(o.first("iterations_per_second", "iterations_per_sec", "it_per_sec", "it_s", "steps_per_second", "steps_per_sec", "train_steps_per_second")),
		TrainedTokens:   optCount(o.first("trained_tokens", "tokens_seen", "num_tokens", "total_tokens", "num_input_tokens_seen")),
		Elapsed:         o.seconds("elapsed_secs", "elapsed_seconds", "elapsed", "elapsed_s", "elapsed_time", "wall_time_s", "runtime"),
		Phase:           o.first("phase"),
		Memory:          o.memories(),
	}
	if width, ok := optCount(o.first("width", "padded_length", "sequence_length", "seq_length", "seq_len")).Get(); ok {
		if n := width * max(optCount(o.first("batch", "batch_size")).Or(1), 1); width > 0 && n/max(width, 1) <= maxCount/max(width, 1) {
			r.Positions = trainer.Some(n)
		}
	}
	r.stepsOf(o.first("step", "iteration", "iter", "global_step", "train_global_step", "it", "train_step"), o.first("total_steps", "max_steps", "iters", "num_steps"))
	if len(r.Phase) > noticeText {
		r.Phase = ""
	}
	// The record that mlx-lm hands to its callbacks counts in 10⁹ bytes.
	if o.has("iteration", "iterations_per_second", "trained_tokens", "peak_memory") {
		if m, ok := memory(PeakMemory, o["peak_memory"], "GB", true); ok {
			r.Memory = append(r.Memory, m)
		}
	}
	return r
}
