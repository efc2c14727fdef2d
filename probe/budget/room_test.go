package budget

import (
	"testing"

	"github.com/mlxdyno/mlxdyno/probe"
	"github.com/mlxdyno/mlxdyno/trainer"
)

func TestRoomIsTheTightest(t *testing.T) {
	known := func(gb int64) probe.Value[int64] { return probe.Known(gb*1e9, "test") }
	ram := probe.Memory{TotalBytes: known(96), AvailableBytes: known(60)}
	limited := trainer.DefaultConfig()
	limited.Plan.MemoryLimit = trainer.LimitOf(20e9)
	for _, tc := range []struct {
		name   string
		s      probe.Snapshot
		c      trainer.Config
		want   string
		wantGB int64
	}{
		{"other programs hold a part", probe.Snapshot{Memory: ram}, trainer.Config{}, LimitAvailable, 60},
		{"a cgroup is tighter", probe.Snapshot{Memory: ram, Cgroup: &probe.Cgroup{LimitBytes: known(8)}}, trainer.Config{}, LimitCgroup, 8},
		{"a cgroup is nearly full", probe.Snapshot{Memory: ram, Cgroup: &probe.Cgroup{LimitBytes: known(8), UsageBytes: known(5)}}, trainer.Config{}, LimitAvailable, 3},
		{"a configured limit is tighter", probe.Snapshot{Memory: ram}, limited, LimitConfigured, 20},
		{"the working set is tighter", probe.Snapshot{Memory: ram, GPU: probe.GPU{Kind: "metal", WorkingSetBytes: known(50)}}, trainer.Config{}, LimitWorkingSet, 50},
		{"a card has its own memory", probe.Snapshot{Memory: ram, GPU: probe.GPU{Kind: "cuda", MemoryBytes: known(141), UsedBytes: known(41)}}, trainer.Config{}, LimitGPU, 100},
		{"available is not known", probe.Snapshot{Memory: probe.Memory{TotalBytes: known(16)}}, trainer.Config{}, LimitRAM, 16},
		{"nothing is known", probe.Snapshot{}, trainer.Config{}, "", 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := Room(tc.s, tc.c)
			if got.Name != tc.want || got.Bytes.Or(0) != tc.wantGB*1e9 {
				t.Errorf("got %s of %s, want %s of %d GB", got.Name, got.Bytes, tc.want, tc.wantGB)
			}
			if tc.want == "" && got.Bytes.Known() {
				t.Error("nothing could be read, and yet there is a limit")
			}
		})
	}
}
