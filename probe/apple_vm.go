package probe

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// Offsets in struct vm_statistics64, which host_statistics64 fills, and its
// size up to what is read. Newer systems append members.
const (
	vmStatisticsBytes = 144

	vmFreeAt        = 0
	vmWiredAt       = 12
	vmPurgeableAt   = 88
	vmSpeculativeAt = 92
	vmSwapInsAt     = 112
	vmSwapOutsAt    = 120
	vmCompressorAt  = 128
	vmExternalAt    = 136 // pages backed by files
)

// decodeVMStatistics fills, from a vm_statistics64, everything that counts
// pages. It fills nothing when the struct cannot be what it says: macOS 27
// changed it.
func decodeVMStatistics(raw []byte, totalBytes, pageBytes int64, s *Snapshot) error {
	if len(raw) < vmStatisticsBytes {
		return fmt.Errorf("has %d bytes, not %d", len(raw), vmStatisticsBytes)
	}
	if pageBytes <= 0 || pageBytes > 1<<30 {
		return errors.New("the size of a page is unknown")
	}
	narrow := func(at int) uint64 { return uint64(binary.LittleEndian.Uint32(raw[at:])) }
	free, speculative := narrow(vmFreeAt), narrow(vmSpeculativeAt)
	wired, compressor, external := narrow(vmWiredAt), narrow(vmCompressorAt), narrow(vmExternalAt)
	ins, outs := binary.LittleEndian.Uint64(raw[vmSwapInsAt:]), binary.LittleEndian.Uint64(raw[vmSwapOutsAt:])
	if speculative > free || max(ins, outs) > math.MaxInt64/uint64(pageBytes) {
		return errors.New("counts that cannot be")
	}
	if int64(free+wired+compressor) > totalBytes/pageBytes {
		return errors.New("counts more pages than there are")
	}
	const source = "host_statistics64"
	of := func(pages uint64) Value[int64] { return Known(int64(pages)*pageBytes, source) }
	s.Memory.WiredBytes = of(wired)
	s.Memory.CompressedBytes = of(compressor)
	// As vm_stat counts: its free pages are without the speculative ones, which
	// are among those backed by files.
	s.Memory.AvailableBytes = of(free - speculative + external + narrow(vmPurgeableAt))
	s.Swap.InBytes, s.Swap.OutBytes = of(ins), of(outs)
	return nil
}
