package native

import (
	"os"
	"path/filepath"
	"runtime"
	"strconv"

	"github.com/mlxdyno/mlxdyno/mlxbind"
	"github.com/mlxdyno/mlxdyno/trainer"
)

// device describes what MLX computes on.
func device(d mlxbind.Device) trainer.Device {
	out := trainer.Device{Kind: d.Kind, Name: d.Properties["device_name"], Architecture: d.Properties["architecture"]}
	for _, f := range []struct {
		to   *trainer.Opt[int64]
		keys []string
	}{
		{&out.MemoryBytes, []string{"memory_size", "total_memory"}},
		{&out.WorkingSetBytes, []string{"max_recommended_working_set_size"}},
		{&out.MaxBufferBytes, []string{"max_buffer_length"}},
		{&out.ResourceLimit, []string{"resource_limit"}},
	} {
		for _, key := range f.keys {
			if n, ok := d.Bytes(key); ok {
				*f.to = trainer.Some(n)
				break
			}
		}
	}
	return out
}

// blas names the library behind float32 products on a Linux CPU, and its threads.
func blas(kind string) (name string, threads trainer.Opt[int]) {
	if kind != "cpu" || runtime.GOOS != "linux" {
		return "", threads
	}
	library := os.Getenv(blasVariable)
	if library == "" {
		return "bundled reference BLAS", threads
	}
	if n, err := strconv.Atoi(os.Getenv("OPENBLAS_NUM_THREADS")); err == nil {
		threads = trainer.Some(n)
	}
	return filepath.Base(library), threads
}

// memory reads MLX's counters and the process. cached is MLX's cache, which may
// have been cleared since.
func memory(s *mlxbind.Scope, cached int64) trainer.Memory {
	m := s.Memory()
	out := trainer.Memory{Active: trainer.Some(m.Active), Peak: trainer.Some(m.Peak), Cache: trainer.Some(cached)}
	if n, ok := footprint(); ok {
		out.Footprint = trainer.Some(n)
	}
	return out
}
