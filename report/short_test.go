package report

import (
	"strings"
	"testing"

	"github.com/mlxdyno/mlxdyno/trainer"
	"github.com/mlxdyno/mlxdyno/tuner"
	"github.com/mlxdyno/mlxdyno/tuner/search"
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

// What training would come to in less memory is the fastest that takes a fifth less, and
// the one that takes least.
func TestLessMemory(t *testing.T) {
	at := func(batch int, gigabytes, speed float64) tuner.Candidate {
		return tuner.Candidate{Point: search.Point{Rank: 8, Batch: batch, Accumulation: 1, MaxSeqLength: 65}, PeakBytes: int64(gigabytes * 1e9), TokensPerSecond: speed, Fits: true}
	}
	r := tuned()
	r.Candidates = []tuner.Candidate{at(8, 10, 100), at(4, 5, 80), at(1, 2, 50)}
	r.Pareto = []tuner.Candidate{at(8, 10, 100), at(7, 9, 99)}
	if got, want := shortLess(r), "nothing that was considered takes a fifth less"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	r.Pareto = append(r.Pareto, at(4, 5, 80))
	if got, want := shortLess(r), "takes 5.00 GB with batch 4 × 1, rank 8, length 65, at 0.8 × the speed (predicted)"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	r.Pareto = append(r.Pareto, at(2, 3, 60), at(1, 2, 50))
	if got := shortLess(r); !strings.Contains(got, "takes 5.00 GB") || !strings.HasSuffix(got, "; at the least 2.00 GB with batch 1 × 1, rank 8, length 65, at 0.5 × the speed (predicted)") {
		t.Errorf("%q", got)
	}
}
