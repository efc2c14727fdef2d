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
	free, ok := s.Memory.AvailableBytes.Get()
	if limit, known := room.Bytes.Get(); ok && (!known || free < limit) {
		return Limit{Name: LimitAvailable, Bytes: trainer.Some(free), From: s.Memory.AvailableBytes.Source(), Note: "what other programs leave"}
	}
	return room
}
