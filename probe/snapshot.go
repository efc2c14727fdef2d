package probe

import (
	"time"

	"github.com/mlxdyno/mlxdyno/probe/model"
)

// Snapshot is everything that was read at one moment. It is plain data: a Mac's
// snapshot, saved as JSON, is diagnosed anywhere.
type Snapshot struct {
	Schema    string    `json:"schema"`           // SnapshotSchema
	Origin    string    `json:"origin,omitempty"` // how it came about, when no machine was read
	At        time.Time `json:"at"`
	Host      Host      `json:"host"`
	Memory    Memory    `json:"memory"`
	Cgroup    *Cgroup   `json:"cgroup,omitempty"` // nil where there are none
	Swap      Swap      `json:"swap"`
	Pressure  Pressure  `json:"pressure"`
	GPU       GPU       `json:"gpu"`
	Processes []Process `json:"processes,omitempty"` // the largest first
	Disk      Disk      `json:"disk"`

	Crashes      []Crash    `json:"crashes,omitempty"`  // of the last 30 days, the newest first
	CrashesFound Value[int] `json:"crashes_found"`      // unknown, with the reason, when not all could be looked at
	LastRun      *LastRun   `json:"last_run,omitempty"` // nil when the last training ended well, or there is none

	Install Install     `json:"install"`
	Model   *ModelState `json:"model,omitempty"` // nil when none was named
	Data    *DataState  `json:"data,omitempty"`  // nil when none was named
}

// SnapshotSchema names the form of a Snapshot.
const SnapshotSchema = "mlxdyno/snapshot/1"

// Host is the machine.
type Host struct {
	OS               string           `json:"os"`   // darwin or linux
	Arch             string           `json:"arch"` // arm64 or amd64
	OSVersion        Value[string]    `json:"os_version"`
	Kernel           Value[string]    `json:"kernel"`
	Chip             Value[string]    `json:"chip"`
	HardwareModel    Value[string]    `json:"hardware_model"`
	Cores            Value[int]       `json:"cores"`             // logical, usable by this process
	PerformanceCores Value[int]       `json:"performance_cores"` // unknown where all are alike
	UptimeSeconds    Value[uint64]    `json:"uptime_seconds"`
	Load1            Value[float64]   `json:"load1"`
	PowerMode        Value[PowerMode] `json:"power_mode"`
	Thermal          Value[Thermal]   `json:"thermal"` // macOS
}

// Thermal is macOS's thermal pressure: how far the system holds the chip back
// for its heat.
type Thermal string

const (
	ThermalNominal  Thermal = "nominal"
	ThermalModerate Thermal = "moderate"
	ThermalHeavy    Thermal = "heavy"
	ThermalTrapping Thermal = "trapping" // about to sleep
	ThermalSleeping Thermal = "sleeping"
)

// PowerMode is the system's energy setting.
type PowerMode string

const (
	PowerNormal PowerMode = "normal"
	PowerLow    PowerMode = "low"
	PowerHigh   PowerMode = "high"
)

// Memory is the machine's, in bytes.
type Memory struct {
	TotalBytes      Value[int64] `json:"total_bytes"`
	AvailableBytes  Value[int64] `json:"available_bytes"` // can be had without swapping
	PageBytes       Value[int64] `json:"page_bytes"`
	WiredBytes      Value[int64] `json:"wired_bytes"`
	CompressedBytes Value[int64] `json:"compressed_bytes"`
	FreePercent     Value[int]   `json:"free_percent"` // kern.memorystatus_level
}

// Cgroup is the control group of this process: the tightest limits among it
// and its ancestors.
type Cgroup struct {
	Version    int          `json:"version"` // 1 or 2
	Path       string       `json:"path"`
	LimitBytes Value[int64] `json:"limit_bytes"` // unknown with reason "no limit" where there is none
	HighBytes  Value[int64] `json:"high_bytes"`

	// UsageBytes is what the group with the limit uses, without the file cache
	// that the kernel can take back (inactive_file of memory.stat). Where
	// memory.stat does not say it, the cache is in, and the source tells so.
	UsageBytes Value[int64]  `json:"usage_bytes"`
	PeakBytes  Value[int64]  `json:"peak_bytes"` // highest usage so far, file cache included
	OOMKills   Value[uint64] `json:"oom_kills"`
}

// Swap is in bytes; In and Out count since boot.
type Swap struct {
	TotalBytes Value[int64] `json:"total_bytes"`
	UsedBytes  Value[int64] `json:"used_bytes"`
	InBytes    Value[int64] `json:"in_bytes"`
	OutBytes   Value[int64] `json:"out_bytes"`
}

// Pressure is how hard memory is to get.
type Pressure struct {
	Level     Value[PressureLevel] `json:"level"`      // macOS
	SomeAvg10 Value[float64]       `json:"some_avg10"` // Linux, percent of time some task stalled
	FullAvg10 Value[float64]       `json:"full_avg10"` // Linux, percent of time all tasks stalled
	OOMKills  Value[uint64]        `json:"oom_kills"`  // Linux, whole machine since boot
}

// Vitals are what changes while steps run.
type Vitals struct {
	Swap     Swap           `json:"swap"`
	Pressure Pressure       `json:"pressure"`
	Thermal  Value[Thermal] `json:"thermal"`
}

// PressureLevel is macOS's kern.memorystatus_vm_pressure_level.
type PressureLevel string

const (
	PressureNormal   PressureLevel = "normal"
	PressureWarn     PressureLevel = "warn"
	PressureCritical PressureLevel = "critical"
)

// GPU holds what concerns the accelerator and can be read without MLX.
type GPU struct {
	Kind               string        `json:"kind"` // metal, cuda or none
	Name               Value[string] `json:"name"`
	DriverVersion      Value[string] `json:"driver_version"`
	MemoryBytes        Value[int64]  `json:"memory_bytes"`      // NVIDIA
	UsedBytes          Value[int64]  `json:"used_bytes"`        // NVIDIA
	WiredLimitBytes    Value[int64]  `json:"wired_limit_bytes"` // iogpu.wired_limit_mb; 0 is the system's default policy
	ResourceLimit      Value[int64]  `json:"resource_limit"`    // live buffers
	ResourcesInUse     Value[int64]  `json:"resources_in_use"`  // live buffers of all programs, macOS
	WorkingSetBytes    Value[int64]  `json:"working_set_bytes"` // from MLX, when a worker has said it
	UtilizationPercent Value[int]    `json:"utilization_percent"`
}

// Process is one running process.
type Process struct {
	PID            int32        `json:"pid"`
	Name           string       `json:"name"`
	ResidentBytes  Value[int64] `json:"resident_bytes"`
	FootprintBytes Value[int64] `json:"footprint_bytes"`
}

// Disk is the file system that holds the home of mlxdyno.
type Disk struct {
	Path       string       `json:"path"`
	TotalBytes Value[int64] `json:"total_bytes"`
	FreeBytes  Value[int64] `json:"free_bytes"`
}

// Install is the Python environment with MLX, as its stamp describes it. The
// caller fills it in: finding the environment is not this package's subject.
type Install struct {
	State         string            `json:"state"`             // ready, missing, stale or broken
	Problem       string            `json:"problem,omitempty"` // when not ready
	Fix           string            `json:"fix,omitempty"`
	Python        string            `json:"python,omitempty"`
	PythonVersion string            `json:"python_version,omitempty"`
	Backend       string            `json:"backend,omitempty"` // metal, cuda or cpu
	Versions      map[string]string `json:"versions,omitempty"`
	BLAS          string            `json:"blas,omitempty"` // serves float32 products on a CPU; empty if not a CPU backend
	Managed       bool              `json:"managed"`
}

// ModelState is a model's facts, or why they could not be read.
type ModelState struct {
	Path    string       `json:"path"`
	Facts   *model.Facts `json:"facts,omitempty"`
	Problem string       `json:"problem,omitempty"`
}

// DataState is what is known of the training text without a tokenizer, and,
// once it has been tokenized, its lengths.
type DataState struct {
	Path      string         `json:"path"`
	Format    string         `json:"format,omitempty"` // text, completions or chat
	Rows      map[string]int `json:"rows,omitempty"`   // by split; nil when not counted
	Malformed int            `json:"malformed"`
	Problem   string         `json:"problem,omitempty"` // what is wrong with the data itself
	Lengths   *LengthStats   `json:"lengths,omitempty"` // of the training split
}

// LengthStats describes token counts of rows, exactly.
type LengthStats struct {
	Rows                  int     `json:"rows"`
	Tokens                int64   `json:"tokens"`
	Supervised            int64   `json:"supervised"`
	P50                   int     `json:"p50"`
	P90                   int     `json:"p90"`
	P99                   int     `json:"p99"`
	Max                   int     `json:"max"`
	Cap                   int     `json:"cap"`                     // max-seq-length in force
	RowsCut               int     `json:"rows_cut"`                // rows longer than Cap
	TokensCut             int64   `json:"tokens_cut"`              // tokens beyond Cap
	PaddingShare          float64 `json:"padding_share"`           // of computed positions, in the batches as planned
	PaddingShareUngrouped float64 `json:"padding_share_ungrouped"` // the same in file order, as mlx-lm ships
	Shapes                int     `json:"shapes"`                  // distinct batch shapes
}
