package trainer

import (
	"fmt"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"
)

// mlx-lm's key lr_schedule holds a function of MLX by name with its arguments,
// among them the learning rate and the number of updates, which are values of
// their own here. So a file that is read must agree with itself, and one that is
// written repeats them.
const (
	mlxCosine   = "cosine_decay"      // arguments: initial rate, updates, final rate or nothing
	mlxLinear   = "linear_schedule"   // arguments: initial rate, final rate, updates
	mlxConstant = "exponential_decay" // arguments: initial rate, factor; 1 stays where it is
)

// scheduled reports whether a knob lives in lr_schedule.
func scheduled(k Knob) bool { return strings.HasPrefix(k.Key(), "lr_schedule.") }

// scheduleNode is lr_schedule for c, nil when the rate stays from the start.
func scheduleNode(c Config) *yaml.Node {
	q := c.Quality
	if !q.LRSchedule.Decays() && q.Warmup == 0 {
		return nil
	}
	n := mapping()
	name, arguments := scheduleCall(c)
	put(n, "name", quoted(name), "")
	put(n, "arguments", arguments, "")
	if q.Warmup != 0 {
		put(n, "warmup", plain("!!int", strconv.Itoa(q.Warmup)), "")
	}
	return n
}

func scheduleCall(c Config) (string, *yaml.Node) {
	rate, end, updates := float(c.Quality.LearningRate), float(c.Quality.LREnd), plain("!!int", strconv.Itoa(c.DecayUpdates()))
	list := &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq", Style: yaml.FlowStyle}
	switch c.Quality.LRSchedule {
	case CosineRate:
		list.Content = []*yaml.Node{rate, updates, end}
		return mlxCosine, list
	case LinearRate:
		list.Content = []*yaml.Node{rate, end, updates}
		return mlxLinear, list
	}
	list.Content = []*yaml.Node{rate, float(1)}
	return mlxConstant, list
}

// scheduleReader gathers lr_schedule until the whole file is known.
type scheduleReader struct {
	at, name, arguments, warmup, warmupInit *yaml.Node
}

func (s *scheduleReader) entry(key string, v *yaml.Node) error {
	into := map[string]**yaml.Node{"lr_schedule.name": &s.name, "lr_schedule.arguments": &s.arguments,
		"lr_schedule.warmup": &s.warmup, "lr_schedule.warmup_init": &s.warmupInit}[key]
	if v.Kind != yaml.ScalarNode && key != "lr_schedule.arguments" {
		return lineError(v, "%s: want a single value", key)
	}
	if !isNull(v) {
		*into = v
	}
	return nil
}

// settleSchedule turns lr_schedule into knobs, or says what of it cannot be.
func (r *fileReader) settleSchedule() error {
	s, set := r.schedule, &r.file.Settings
	if s == nil {
		return nil
	}
	if s.name == nil || s.arguments == nil || s.arguments.Kind != yaml.SequenceNode {
		return lineError(s.at, "lr_schedule: want a name and a list of arguments, as mlx-lm does")
	}
	schedule, wanted := ConstantRate, 2
	switch s.name.Value {
	case mlxCosine:
		schedule, wanted = CosineRate, 3
	case mlxLinear:
		schedule, wanted = LinearRate, 3
	case mlxConstant:
	default:
		return lineError(s.name, "lr_schedule.name: %q is not honoured here; use %s or %s, or train with mlx_lm.lora itself", s.name.Value, mlxCosine, mlxLinear)
	}
	given := s.arguments.Content
	if schedule == CosineRate && len(given) == 2 { // it ends at 0
		given = append(given[:2:2], plain("!!float", "0.0"))
	}
	if len(given) != wanted {
		return lineError(s.arguments, "lr_schedule.arguments: %s takes %d values here, and there are %d", s.name.Value, wanted, len(given))
	}
	if err := r.settleWarmup(s); err != nil {
		return err
	}
	if err := r.settleRate(given[0]); err != nil {
		return err
	}
	end, updates := given[wanted-1], given[1]
	if schedule == LinearRate {
		end, updates = updates, end
	}
	if schedule == ConstantRate {
		if factor, err := numberOf(end); err != nil || factor != 1 {
			return lineError(end, "lr_schedule.arguments: %s is honoured with the factor 1 only, which keeps the rate; use %s or %s, or train with mlx_lm.lora itself", mlxConstant, mlxCosine, mlxLinear)
		}
		return set.Set("lr-schedule", string(schedule), FromFile)
	}
	if err := set.Set("lr-schedule", string(schedule), FromFile); err != nil {
		return lineError(s.name, "%v", err)
	}
	if err := r.setNumber("lr-end", end); err != nil {
		return err
	}
	var n int
	if updates.ShortTag() != "!!int" || updates.Decode(&n) != nil || n != set.Config.DecayUpdates() {
		_, right := scheduleCall(set.Config)
		return lineError(updates, "lr_schedule.arguments: %s updates to the end, but iters / grad_accumulation_steps less warmup are %d; make it %s, or train with mlx_lm.lora itself",
			updates.Value, set.Config.DecayUpdates(), inline(right))
	}
	return nil
}

func (r *fileReader) settleWarmup(s *scheduleReader) error {
	if s.warmup == nil {
		return nil
	}
	var n int
	if s.warmup.ShortTag() != "!!int" || s.warmup.Decode(&n) != nil || n < 0 {
		return lineError(s.warmup, "lr_schedule.warmup: %q is not a whole number of updates", s.warmup.Value)
	}
	if s.warmupInit != nil && n > 0 {
		if from, err := numberOf(s.warmupInit); err != nil || from != 0 {
			return lineError(s.warmupInit, "lr_schedule.warmup_init: a warm-up begins at 0 here, not at %s; remove it, or train with mlx_lm.lora itself", s.warmupInit.Value)
		}
	}
	return r.file.Settings.Set("warmup", strconv.Itoa(n), FromFile)
}

// settleRate takes the rate from the first argument, which is the one that
// mlx-lm uses. learning_rate may say the same or nothing.
func (r *fileReader) settleRate(first *yaml.Node) error {
	set := &r.file.Settings
	_, given := set.Origins["learning-rate"]
	rate := set.Config.Quality.LearningRate
	if err := r.setNumber("learning-rate", first); err != nil {
		return err
	}
	if starts := set.Config.Quality.LearningRate; given && starts != rate {
		return lineError(first, "lr_schedule.arguments: mlx-lm would start at %g, but learning_rate is %g; make them the same", starts, rate)
	}
	return nil
}

func (r *fileReader) setNumber(knob string, n *yaml.Node) error {
	v, err := numberOf(n)
	if err != nil {
		return lineError(n, "lr_schedule.arguments: %v", err)
	}
	if err := r.file.Settings.Set(knob, strconv.FormatFloat(v, 'g', -1, 64), FromFile); err != nil {
		return lineError(n, "lr_schedule.arguments: %v", err)
	}
	return nil
}

func numberOf(n *yaml.Node) (float64, error) {
	var v float64
	if tag := n.ShortTag(); n.Kind != yaml.ScalarNode || tag != "!!float" && tag != "!!int" || n.Decode(&v) != nil {
		return 0, fmt.Errorf("%q is not a number", n.Value)
	}
	return v, nil
}

// inline is a list of scalars as YAML writes it on one line.
func inline(list *yaml.Node) string {
	var values []string
	for _, n := range list.Content {
		values = append(values, n.Value)
	}
	return "[" + strings.Join(values, ", ") + "]"
}
