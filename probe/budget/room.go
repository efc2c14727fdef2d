package budget

import (
	"github.com/mlxdyno/mlxdyno/probe"
	"github.com/mlxdyno/mlxdyno/trainer"
)

// LimitAvailable is what the system could give now without swapping.
const LimitAvailable = "available memory"

// Room is the memory that a training may use now: the tightest limit of the
// machine and the configuration, or what other programs leave of it. Its Bytes
// are unknown when none of these could be read.
func Room(s probe.Snapshot, c trainer.Config) Limit {
	room := Budget{}.WithLimits(s, c).Limit
	if s.GPU.Kind == "cuda" {
		if total, ok := s.GPU.MemoryBytes.Get(); ok {
			if used, ok := s.GPU.UsedBytes.Get(); ok && total-used < room.Bytes.Or(total) {
				return Limit{Name: LimitGPU, Bytes: trainer.Some(total - used), From: s.GPU.UsedBytes.Source(), Note: "free on the card"}
			}
		}
		return room
	}
	free := Available(s)
	n, ok := free.Get()
	if limit, known := room.Bytes.Get(); ok && (!known || n < limit) {
		return Limit{Name: LimitAvailable, Bytes: trainer.Some(n), From: free.Source(), Note: "what other programs leave"}
	}
	return room
}

// Available is what a new process can have without swapping: of the machine,
// or of the control group when that is tighter. Memory of a separate GPU is
// not looked at.
func Available(s probe.Snapshot) probe.Value[int64] {
	free := s.Memory.AvailableBytes
	if s.Cgroup == nil {
		return free
	}
	limit, ok1 := s.Cgroup.LimitBytes.Get()
	used, ok2 := s.Cgroup.UsageBytes.Get()
	room := max(limit-used, 0)
	if n, known := free.Get(); ok1 && ok2 && (!known || room < n) {
		return probe.Known(room, s.Cgroup.LimitBytes.Source()+" less "+s.Cgroup.UsageBytes.Source())
	}
	return free
}
