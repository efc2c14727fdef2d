package probe

import (
	"encoding/binary"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Offsets in struct rusage_info_v4 and struct proc_taskinfo.
const (
	rusageUserAt   = 16
	rusageSystemAt = 24
	taskInfoBytes  = 96
	taskThreadsAt  = 84
)

// decodeRusageCPU takes the time of all threads, which is counted in ticks of
// 125/3 ns on Apple silicon, the only one that MLX runs on.
func decodeRusageCPU(raw []byte) Value[time.Duration] {
	const source = "proc_pid_rusage"
	if len(raw) < rusageV4Bytes {
		return Unknown[time.Duration](fmt.Sprintf("has %d bytes, not %d", len(raw), rusageV4Bytes), source)
	}
	user, system := binary.LittleEndian.Uint64(raw[rusageUserAt:]), binary.LittleEndian.Uint64(raw[rusageSystemAt:])
	if most := uint64(math.MaxInt64 / 250); user > most || system > most {
		return Unknown[time.Duration]("is impossibly large", source)
	}
	return Known(time.Duration((user+system)*125/3), source)
}

func decodeTaskThreads(raw []byte) Value[int] {
	const source = "proc_pidinfo"
	if len(raw) < taskInfoBytes {
		return Unknown[int](fmt.Sprintf("has %d bytes, not %d", len(raw), taskInfoBytes), source)
	}
	n := int32(binary.LittleEndian.Uint32(raw[taskThreadsAt:]))
	if n < 0 {
		return Unknown[int]("is below zero", source)
	}
	return Known(int(n), source)
}

// parseTopMemory reads the last line of `top -l 1 -pid N -stats pid,mem`, whose
// memory is a footprint such as 1843M, 12G+ or 900K.
func parseTopMemory(text string) Value[int64] {
	const source = "top -stats pid,mem"
	lines := strings.Split(strings.TrimSpace(text), "\n")
	f := strings.Fields(lines[len(lines)-1])
	if len(f) != 2 {
		return Unknown[int64]("names no process", source)
	}
	digits := strings.TrimRight(f[1], "+-")
	if len(digits) < 2 {
		return Unknown[int64]("names no size", source)
	}
	shift, ok := map[byte]int{'B': 0, 'K': 10, 'M': 20, 'G': 30, 'T': 40}[digits[len(digits)-1]]
	n, err := strconv.ParseInt(digits[:len(digits)-1], 10, 64)
	if !ok || err != nil || n < 0 || n > math.MaxInt64>>shift {
		return Unknown[int64]("names no size", source)
	}
	return Known(n<<shift, source)
}
