package trainer

// Difference is one thing that an engine does otherwise than mlx-lm's train().
type Difference struct {
	Knob  string `json:"knob,omitempty"` // that turns it; empty when nothing does but --parity
	Here  string `json:"here"`
	MLXLM string `json:"mlx_lm"`
	Gives string `json:"gives"` // what it is expected to give, and where that was measured
}
