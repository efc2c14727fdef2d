package command

import (
	"encoding/json"
	"math"
	"regexp"
	"strings"

	"github.com/mlxdyno/mlxdyno/trainer"
)

// object is a JSON object with its nested ones laid flat: {"train": {"loss": 1}}
// has the key train_loss. Keys are in lower case with _ for other separators.
type object map[string]string

const (
	objectBytes = 64 << 10 // of a line; metrics are short
	objectKeys  = 256
	objectDepth = 4
)

// bareNumber finds what Python's json writes and JSON does not know.
var bareNumber = regexp.MustCompile(`([:\[,]\s*)(-?Infinity|-?inf|NaN|nan)(\s*[,}\]])`)

// parseObject reads a line that is one JSON object.
func parseObject(line string) (object, bool) {
	line = strings.TrimSpace(line)
	if len(line) < 2 || len(line) > objectBytes || line[0] != '{' || line[len(line)-1] != '}' {
		return nil, false
	}
	var raw map[string]any
	if !decode(line, &raw) {
		if !strings.Contains(line, "nf") && !strings.Contains(line, "aN") && !strings.Contains(line, "an") {
			return nil, false
		}
		quoted := bareNumber.ReplaceAllString(line, `$1"$2"$3`)
		if !decode(bareNumber.ReplaceAllString(quoted, `$1"$2"$3`), &raw) { // neighbours share a separator
			return nil, false
		}
	}
	out := object{}
	out.lay("", raw, 0)
	return out, true
}

func decode(line string, into any) bool {
	d := json.NewDecoder(strings.NewReader(line))
	d.UseNumber()
	return d.Decode(into) == nil && !d.More()
}

func (o object) lay(prefix string, m map[string]any, depth int) {
	for k, v := range m {
		if len(o) >= objectKeys {
			return
		}
		key := prefix + plainKey(k)
		switch v := v.(type) {
		case json.Number:
			o[key] = v.String()
		case string:
			o[key] = v
		case map[string]any:
			if depth < objectDepth {
				o.lay(key+"_", v, depth+1)
			}
		}
	}
}

func plainKey(k string) string {
	return strings.Trim(strings.Map(func(r rune) rune {
		switch r {
		case '/', '-', '.', ' ', ':':
			return '_'
		}
		return r
	}, strings.ToLower(k)), "_")
}

// first returns the value of the first key that o has.
func (o object) first(keys ...string) string {
	for _, k := range keys {
		if v, ok := o[k]; ok {
			return v
		}
	}
	return ""
}

func (o object) has(keys ...string) bool {
	for _, k := range keys {
		if _, ok := o[k]; !ok {
			return false
		}
	}
	return true
}

// seconds reads a key that counts seconds.
func (o object) seconds(keys ...string) trainer.Opt[Clock] {
	v, ok := number(o.first(keys...))
	if !ok || math.IsNaN(v) {
		return trainer.Opt[Clock]{}
	}
	return clockOfSeconds(v)
}

// memories reads keys that name a unit, such as mlx_active_mb, in the order of kinds.
func (o object) memories() []Memory {
	var out []Memory
	for _, k := range []struct {
		kind  MemoryKind
		stems []string
	}{
		{ActiveMemory, []string{"mlx_active", "active", "active_memory", "active_mem", "memory_active", "metal_active"}},
		{PeakMemory, []string{"mlx_peak", "peak", "peak_memory", "peak_mem", "memory_peak", "max_memory"}},
		{CacheMemory, []string{"mlx_cache", "cache", "cache_memory", "cache_mem", "memory_cache"}},
		{ResidentMemory, []string{"rss", "resident", "memory_rss"}},
		{AvailableMemory, []string{"avail", "available", "available_memory"}},
		{SomeMemory, []string{"memory", "mem", "memory_used", "gpu_memory"}},
	} {
		if m, ok := o.memory(k.kind, k.stems); ok {
			out = append(out, m)
		}
	}
	return out
}

func (o object) memory(kind MemoryKind, stems []string) (Memory, bool) {
	for _, stem := range stems {
		for _, unit := range []string{"bytes", "KB", "MB", "GB", "KiB", "MiB", "GiB"} {
			if v, ok := o[stem+"_"+strings.ToLower(unit)]; ok {
				return memory(kind, v, unit, false)
			}
		}
	}
	return Memory{}, false
}
