package fits

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Machine is what has been published of a kind of machine. Nothing of it was
// measured by us.
type Machine struct {
	Name             string  `json:"name"`
	MemoryBytes      int64   `json:"memory_bytes"`
	UsableBytes      int64   `json:"usable_bytes"`                // that a training may use
	UsableSource     string  `json:"usable_source"`               // of UsableBytes
	BandwidthBytes   float64 `json:"bandwidth_bytes,omitempty"`   // a second; 0 when only the memory is known
	OperationsSecond float64 `json:"operations_second,omitempty"` // floating-point, of dense matrix products; 0 when only the memory is known
	Device           string  `json:"device"`                      // metal or cuda
	Source           string  `json:"source"`
}

// kind is a row of the table of published figures.
type kind struct {
	name      string
	gigabytes []int   // memory that it is sold with
	cores     int     // of the GPU, the most that it is sold with
	clock     float64 // of the GPU, GHz
	bandwidth float64 // GB/s, the most that it is sold with
	teraflops float64 // of dense matrix products in half precision; 0 follows from cores and clock
}

// kinds are chips by published figures: memory sizes and bandwidth are the
// maker's, an Apple GPU's rate is cores × 128 × 2 × clock, which gives the maker's
// own 2.6, 10.4, 13.6 and 27.2 TFLOP/s for M1, M1 Max, M2 Max and M2 Ultra. Of an
// M5 the rate leaves out what its matrix units add.
var kinds = []kind{
	{"M1", []int{8, 16}, 8, 1.278, 68, 0},
	{"M1 Pro", []int{16, 32}, 16, 1.296, 200, 0},
	{"M1 Max", []int{32, 64}, 32, 1.296, 400, 0},
	{"M1 Ultra", []int{64, 128}, 64, 1.296, 800, 0},
	{"M2", []int{8, 16, 24}, 10, 1.398, 100, 0},
	{"M2 Pro", []int{16, 32}, 19, 1.398, 200, 0},
	{"M2 Max", []int{32, 64, 96}, 38, 1.398, 400, 0},
	{"M2 Ultra", []int{64, 128, 192}, 76, 1.398, 800, 0},
	{"M3", []int{8, 16, 24}, 10, 1.398, 100, 0},
	{"M3 Pro", []int{18, 36}, 18, 1.398, 150, 0},
	{"M3 Max", []int{36, 48, 64, 96, 128}, 40, 1.398, 400, 0},
	{"M3 Ultra", []int{96, 256, 512}, 80, 1.398, 819, 0},
	{"M4", []int{16, 24, 32}, 10, 1.578, 120, 0},
	{"M4 Pro", []int{24, 48, 64}, 20, 1.578, 273, 0},
	{"M4 Max", []int{36, 48, 64, 128}, 40, 1.578, 546, 0},
	{"M5", []int{16, 24, 32}, 10, 1.578, 153, 0},
	{"H100", []int{80}, 0, 0, 3350, 989},
	{"H200", []int{141}, 0, 0, 4800, 989},
}

const (
	publishedSource = "the figures by which it is sold, from a table of ours; nothing was measured"

	// Metal recommends to keep this share of the memory resident at most: MLX's
	// max_recommended_working_set_size, as seen on machines up to and above 36 GB.
	// Newer systems recommend more, up to 84 %.
	shareSmall, shareLarge = 2.0 / 3, 3.0 / 4
	largeMemory            = 36
)

// MachineError says that a machine is not in the table.
type MachineError struct{ Text, Hint string }

func (e *MachineError) Error() string { return "machine: " + e.Text }

// FindMachine reads "M4 Max 64GB", or "64GB" for a Mac of which only the memory
// matters. Apple's gigabytes are 2³⁰ bytes. It returns a *MachineError when no
// such machine is known.
func FindMachine(s string) (Machine, error) {
	words := strings.Fields(strings.ToLower(strings.ReplaceAll(s, ",", " ")))
	words = slices.DeleteFunc(words, func(w string) bool { return w == "apple" || w == "nvidia" })
	// "64 GB" is "64GB"
	if n := len(words); n >= 2 && words[n-1] == "gb" {
		words = append(words[:n-2], words[n-2]+"gb")
	}
	gigabytes := 0
	if n := len(words); n > 0 {
		if digits, ok := strings.CutSuffix(words[n-1], "gb"); ok {
			v, err := strconv.Atoi(digits)
			if err != nil || v < 1 || v > 1<<20 {
				return Machine{}, &MachineError{fmt.Sprintf("%q is no size of memory", words[n-1]), "write it as 64GB"}
			}
			gigabytes, words = v, words[:n-1]
		}
	}
	name := strings.Join(words, " ")
	if name == "" {
		if gigabytes == 0 {
			return Machine{}, &MachineError{"none is named", knownHint()}
		}
		return mac(fmt.Sprintf("%dGB", gigabytes), gigabytes), nil
	}
	i := slices.IndexFunc(kinds, func(k kind) bool { return strings.ToLower(k.name) == name })
	if i < 0 {
		return Machine{}, &MachineError{fmt.Sprintf("nothing is known of %q", s), knownHint()}
	}
	k := kinds[i]
	switch {
	case gigabytes == 0 && len(k.gigabytes) == 1:
		gigabytes = k.gigabytes[0]
	case !slices.Contains(k.gigabytes, gigabytes):
		text := fmt.Sprintf("%s is not sold with %d GB", k.name, gigabytes)
		if gigabytes == 0 {
			text = "the memory of " + k.name + " is not said"
		}
		return Machine{}, &MachineError{text, fmt.Sprintf("it has %s; for the memory alone write --machine %dGB", sizes(k.gigabytes), max(gigabytes, k.gigabytes[0]))}
	}
	return k.with(gigabytes), nil
}

// Chip returns the machine of a chip's name, such as "Apple M4 Max", whatever its
// memory.
func Chip(name string) (Machine, bool) {
	name = strings.ToLower(strings.TrimPrefix(strings.TrimSpace(name), "Apple "))
	i := slices.IndexFunc(kinds, func(k kind) bool { return strings.ToLower(k.name) == name })
	if i < 0 {
		return Machine{}, false
	}
	return kinds[i].with(kinds[i].gigabytes[0]), true
}

func mac(name string, gigabytes int) Machine {
	share := shareSmall
	if gigabytes > largeMemory {
		share = shareLarge
	}
	bytes := int64(gigabytes) << 30
	return Machine{Name: name, MemoryBytes: bytes, UsableBytes: int64(share * float64(bytes)),
		Device:       "metal",
		UsableSource: fmt.Sprintf("the working set that Metal recommends: %.0f %% of %d GB", 100*share, gigabytes), Source: publishedSource}
}

func (k kind) with(gigabytes int) Machine {
	m := mac(fmt.Sprintf("%s %dGB", k.name, gigabytes), gigabytes)
	m.OperationsSecond = float64(k.cores) * 128 * 2 * k.clock * 1e9
	if k.teraflops > 0 { // a card with memory of its own, in gigabytes of 10⁹ bytes
		m.MemoryBytes = int64(gigabytes) * 1e9
		m.UsableBytes, m.UsableSource = m.MemoryBytes*97/100, "97 % of the card's memory"
		m.OperationsSecond, m.Device = k.teraflops*1e12, "cuda"
	}
	m.BandwidthBytes = k.bandwidth * 1e9
	return m
}

// Shares of the published rate that trainings reach, and how far off that may be.
// Published speeds of mlx-lm are 22 to 43 % of it on Apple's chips: Llama-7B on an M2
// Ultra at 475 tokens a second, Mistral-7B on an M1 Max at 250, Llama-3-8B at 4 bits
// on an M1 Max at 97 to 118 and on an M3 Max at 8,192 tokens at 82 to 137. Of cards
// there is one point of ours: 20 % on an H100 with a llama of the 1B shape.
const (
	appleShare, appleError = 0.30, 0.40
	cardShare, cardError   = 0.20, 1.0
)

// Rate is how fast trainings are, by what was published; nil when only the memory
// is known.
func (m Machine) Rate() *Rate {
	if m.OperationsSecond == 0 {
		return nil
	}
	share, wrong := appleShare, appleError
	if m.Device == "cuda" {
		share, wrong = cardShare, cardError
	}
	return &Rate{Operations: share * m.OperationsSecond, Bandwidth: m.BandwidthBytes, Error: wrong,
		Source: fmt.Sprintf("estimate: %.0f %% of the %.3g TFLOP/s that are published of this GPU, and weights read at %.0f GB/s",
			100*share, m.OperationsSecond/1e12, m.BandwidthBytes/1e9)}
}

// KnownMachines lists what FindMachine knows.
func KnownMachines() []string {
	out := make([]string, len(kinds))
	for i, k := range kinds {
		out[i] = k.name + " " + sizes(k.gigabytes)
	}
	return out
}

func knownHint() string {
	return "known are " + strings.Join(KnownMachines(), "; ") + "; or a size alone, such as 64GB, for a Mac of which only the memory matters"
}

// sizes lists memory: "36, 48 or 64 GB".
func sizes(gigabytes []int) string {
	parts := make([]string, len(gigabytes))
	for i, g := range gigabytes {
		parts[i] = strconv.Itoa(g)
	}
	n := len(parts)
	if n == 1 {
		return parts[0] + "GB"
	}
	return strings.Join(parts[:n-1], ", ") + " or " + parts[n-1] + "GB"
}
