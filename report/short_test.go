package report

import (
	"strings"
	"testing"

	"github.com/mlxdyno/mlxdyno/trainer"
)

// Defaults that are faster because they learn less are held against the winner at its
// own quality, too.
func TestSpeedAgainstDefaultsOfOtherQuality(t *testing.T) {
	r := tuned()
	r.Baseline = nil
	r.Start.Speedup, r.Start.Measured = trainer.Some(0.85), false
	if got := shortSpeed(r); !strings.Contains(got, "--compare tells") {
		t.Errorf("slower than the defaults: %q", got)
	}
	r.Start.SpeedupAlike = trainer.Some(1.05)
	r.Start.Config = r.Config
	r.Start.Config.Quality.Rank, r.Start.Config.Data.MaxSeqLength = 3, 4096
	if got := shortSpeed(r); !strings.Contains(got, "1.05 × as fast as the defaults at the same bits, rank and length; as they are, with rank 3 and length 4,096, they are faster: this is 0.85 × their speed (predicted)") {
		t.Errorf("as fast at the same quality: %q", got)
	}
	r.Start.Speedup = trainer.Some(1.4)
	if got := shortSpeed(r); strings.Contains(got, "same bits") {
		t.Errorf("faster anyway: %q", got)
	}
}
