package decoder

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"

	"github.com/mlxdyno/mlxdyno/probe/model"
)

// Unsupported is a model that this package does not compute.
type Unsupported struct{ Reason string }

func (e *Unsupported) Error() string { return e.Reason }

func unsupported(format string, args ...any) error {
	return &Unsupported{fmt.Sprintf(format, args...)}
}

// config is what a decoder needs of config.json beyond model.Facts. What is
// absent is nil, since defaults differ between families.
type config struct {
	Eps                  *float64       `json:"rms_norm_eps"`
	RopeTheta            *float64       `json:"rope_theta"`
	RopeTraditional      bool           `json:"rope_traditional"`
	RopeScaling          *ropeScaling   `json:"rope_scaling"`
	RopeParameters       *ropeScaling   `json:"rope_parameters"`
	RopeLocalBase        *float64       `json:"rope_local_base_freq"`
	PartialRotary        *float64       `json:"partial_rotary_factor"`
	MaxPositions         *int           `json:"max_position_embeddings"`
	OriginalMaxPositions *int           `json:"original_max_position_embeddings"`
	Tied                 *bool          `json:"tie_word_embeddings"`
	AttentionBias        bool           `json:"attention_bias"`
	MLPBias              bool           `json:"mlp_bias"`
	LayerTypes           []string       `json:"layer_types"`
	Window               *int           `json:"sliding_window"`
	WindowPattern        *int           `json:"sliding_window_pattern"`
	QueryScalar          *float64       `json:"query_pre_attn_scalar"`
	AttentionCap         *float64       `json:"attn_logit_softcapping"`
	LogitCap             *float64       `json:"final_logit_softcapping"`
	ModelFile            *string        `json:"model_file"`
	TextConfig           map[string]any `json:"text_config"`
}

// ropeScaling is how positions beyond those of the pre-training are reached.
type ropeScaling struct {
	Type           string   `json:"type"`
	RopeType       string   `json:"rope_type"`
	RopeTheta      *float64 `json:"rope_theta"`
	Factor         *float64 `json:"factor"`
	LowFreqFactor  *float64 `json:"low_freq_factor"`
	HighFreqFactor *float64 `json:"high_freq_factor"`
	OriginalMax    *int     `json:"original_max_position_embeddings"`
	LongFactor     factors  `json:"long_factor"`
}

// factors is a number or a list of them.
type factors []float64

// UnmarshalJSON implements json.Unmarshaler.
func (f *factors) UnmarshalJSON(text []byte) error {
	var one float64
	if json.Unmarshal(text, &one) == nil {
		*f = factors{one}
		return nil
	}
	return json.Unmarshal(text, (*[]float64)(f))
}

func (r *ropeScaling) kind() string {
	switch {
	case r == nil:
		return "default"
	case r.Type != "":
		return r.Type
	case r.RopeType != "":
		return r.RopeType
	}
	return "default"
}

func or[T any](v *T, fallback T) T {
	if v == nil {
		return fallback
	}
	return *v
}

// ropeForm is one rotary embedding. Exactly one of the ways to get its
// frequencies holds.
type ropeForm struct {
	dims        int
	traditional bool
	base        float64
	scale       float64 // of positions
	llama3      *ropeScaling
	long        []float64 // factors of longrope
	input       float64   // factor on what is rotated; 0 is none
}

// rope chooses the form for a scaling, as mlx-lm's initialize_rope.
func (c *config) rope(dims int, base float64, scaling *ropeScaling) (ropeForm, error) {
	r := ropeForm{dims: dims, traditional: c.RopeTraditional, base: base, scale: 1}
	switch kind := scaling.kind(); kind {
	case "default", "mrope":
	case "linear":
		if scaling.Factor == nil || *scaling.Factor <= 0 {
			return r, unsupported("rope_scaling is linear and has no positive factor")
		}
		r.scale = 1 / *scaling.Factor
	case "llama3":
		if scaling.Factor == nil {
			return r, unsupported("rope_scaling is llama3 and has no factor")
		}
		r.llama3 = scaling
	case "longrope", "su":
		if len(scaling.LongFactor) == 0 {
			return r, unsupported("rope_scaling is %s and has no long_factor", kind)
		}
		original := float64(or(scaling.OriginalMax, or(c.OriginalMaxPositions, 4096)))
		r.traditional = false
		r.long = scaling.LongFactor
		r.input = 1
		if factor := float64(or(c.MaxPositions, 131072)) / original; factor > 1 {
			r.input = math.Sqrt(1 + math.Log(factor)/math.Log(original))
		}
	default:
		return r, unsupported("rope_scaling of the type %q", kind)
	}
	return r, nil
}

// Spec is what a decoder computes, whatever the family.
type Spec struct {
	Arch                           string
	Layers, Hidden, Intermediate   int
	Heads, KVHeads, HeadDim, Vocab int
	Eps                            float64
	Tied                           bool
	QKNorm                         bool // a norm on every query and key head
	FusedQKV, FusedGateUp          bool // one matrix for three, and for two
	Gelu                           bool // gelu instead of silu
	NormPlusOne                    bool // norms scale by 1 + weight
	PostNorms                      bool // norms behind attention and MLP too
	EmbedScale                     float64
	EmbedScaleInBF16               bool
	QKVBias, OBias, MLPBias        bool
	AttentionScale                 float64
	AttentionCap, LogitCap         float64 // 0 is none
	Window                         int
	Sliding                        []bool // of each layer
	ropes                          []ropeForm
	ropeOf                         []int // of each layer, into ropes
	ClipResidual                   bool
}

// Families are the architectures that ReadSpec knows, by model_type.
func Families() []string {
	var names []string
	for name := range families {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

var families = map[string]func(*config, *Spec) error{
	"llama": llama, "mistral": llama, "qwen2": qwen2, "qwen3": qwen3, "gemma2": gemma2, "gemma3_text": gemma3, "phi3": phi3,
}

// ReadSpec returns what the model with these facts computes, or *Unsupported.
func ReadSpec(f *model.Facts) (*Spec, error) {
	family, ok := families[f.Arch]
	if !ok {
		return nil, unsupported("models of the type %q", f.Arch)
	}
	raw, err := os.ReadFile(filepath.Join(f.Path, "config.json"))
	if err != nil {
		return nil, fmt.Errorf("read config.json: %w", err)
	}
	var c config
	if err := json.Unmarshal(raw, &c); err != nil {
		return nil, unsupported("a config.json with %v", err)
	}
	if c.ModelFile != nil {
		return nil, unsupported("models with code of their own")
	}
	if q := f.Quant; q != nil && q.Mode != "affine" {
		return nil, unsupported("weights quantized as %s", q.Mode)
	}
	s := &Spec{
		Arch: f.Arch, Layers: f.Layers, Hidden: f.Hidden, Intermediate: f.Intermediate,
		Heads: f.Heads, KVHeads: f.KVHeads, HeadDim: f.HeadDim, Vocab: f.Vocab,
		Sliding: make([]bool, f.Layers), ropeOf: make([]int, f.Layers), Window: or(c.Window, 0),
	}
	if s.Layers < 1 || s.Heads < 1 || s.KVHeads < 1 || s.HeadDim < 1 || s.Heads%s.KVHeads != 0 {
		return nil, unsupported("%d layers of %d heads, %d for keys and values, %d features each", s.Layers, s.Heads, s.KVHeads, s.HeadDim)
	}
	s.AttentionScale = math.Pow(float64(s.HeadDim), -0.5)
	if c.Eps == nil && f.Arch != "gemma3_text" {
		return nil, unsupported("a config.json without rms_norm_eps")
	}
	s.Eps = or(c.Eps, 1e-6)
	if err := family(&c, s); err != nil {
		return nil, err
	}
	return s, s.check()
}

// oneRope gives every layer the same rotary embedding.
func (s *Spec) oneRope(c *config, dims int, base float64, scaling *ropeScaling) error {
	r, err := c.rope(dims, base, scaling)
	s.ropes = []ropeForm{r}
	return err
}

func llama(c *config, s *Spec) error {
	s.Tied = or(c.Tied, true)
	s.QKVBias, s.OBias, s.MLPBias = c.AttentionBias, c.AttentionBias, c.MLPBias
	// mlx-lm lets layers slide only when layer_types says which: so does this,
	// or the adapter would not fit the model that mlx-lm generates with.
	if len(c.LayerTypes) > 0 {
		if len(c.LayerTypes) != s.Layers || !slices.Contains(c.LayerTypes, "full_attention") {
			return unsupported("layer_types of %d layers, none of them full_attention or not one a layer", len(c.LayerTypes))
		}
		for i, t := range c.LayerTypes {
			s.Sliding[i] = t == "sliding_attention"
		}
	}
	return s.oneRope(c, s.HeadDim, or(c.RopeTheta, 10000), c.RopeScaling)
}

func qwen2(c *config, s *Spec) error {
	s.Tied = or(c.Tied, true)
	s.QKVBias = true
	s.HeadDim = s.Hidden / s.Heads
	s.AttentionScale = math.Pow(float64(s.HeadDim), -0.5)
	return s.oneRope(c, s.HeadDim, or(c.RopeTheta, 1e6), c.RopeScaling)
}

func qwen3(c *config, s *Spec) error {
	s.Tied = or(c.Tied, false)
	s.QKNorm = true
	c.RopeTraditional = false
	theta, scaling := c.RopeTheta, c.RopeScaling
	if p := c.RopeParameters; p != nil {
		if theta == nil {
			theta = p.RopeTheta
		}
		if scaling == nil {
			scaling = p
		}
	}
	if theta == nil {
		return unsupported("a config.json without rope_theta")
	}
	return s.oneRope(c, s.HeadDim, *theta, scaling)
}

func gemma2(c *config, s *Spec) error {
	s.Tied, s.Gelu, s.NormPlusOne, s.PostNorms = true, true, true, true
	s.EmbedScale = math.Sqrt(float64(s.Hidden))
	s.AttentionScale = 1 / math.Sqrt(or(c.QueryScalar, 144))
	s.AttentionCap, s.LogitCap = or(c.AttentionCap, 50), or(c.LogitCap, 30)
	// mlx-lm computes every layer with the whole context, though the model was
	// trained with alternating windows; they matter beyond 4096 tokens.
	return s.oneRope(c, s.HeadDim, or(c.RopeTheta, 10000), nil)
}

func gemma3(c *config, s *Spec) error {
	s.Gelu, s.NormPlusOne, s.PostNorms, s.QKNorm, s.ClipResidual = true, true, true, true, true
	s.Tied = true // unless there is a head: Load sees
	s.EmbedScale, s.EmbedScaleInBF16 = math.Sqrt(float64(s.Hidden)), true
	s.AttentionScale = math.Pow(or(c.QueryScalar, 256), -0.5)
	s.Window = or(c.Window, 512)
	c.RopeTraditional = false
	local, err := c.rope(s.HeadDim, or(c.RopeLocalBase, 10000), nil)
	if err != nil {
		return err
	}
	global, err := c.rope(s.HeadDim, or(c.RopeTheta, 1e6), c.RopeScaling)
	if err != nil {
		return err
	}
	s.ropes = []ropeForm{global, local}
	pattern := or(c.WindowPattern, 6)
	if pattern < 1 || pattern > s.Layers {
		return unsupported("a sliding_window_pattern of %d for %d layers", pattern, s.Layers)
	}
	for i := range s.Layers {
		if (i+1)%pattern != 0 {
			s.Sliding[i], s.ropeOf[i] = true, 1
		}
	}
	return nil
}

func phi3(c *config, s *Spec) error {
	s.Tied = or(c.Tied, false)
	s.FusedQKV, s.FusedGateUp = true, true
	s.HeadDim = s.Hidden / s.Heads
	s.AttentionScale = math.Pow(float64(s.HeadDim), -0.5)
	scaling := c.RopeScaling
	switch scaling.kind() {
	case "longrope", "su":
		copied := *scaling
		copied.OriginalMax = nil // phi3 takes the model's own
		scaling = &copied
	case "linear":
	default:
		scaling = nil // as mlx-lm, with a warning there
	}
	return s.oneRope(c, int(float64(s.HeadDim)*or(c.PartialRotary, 1)), or(c.RopeTheta, 10000), scaling)
}
