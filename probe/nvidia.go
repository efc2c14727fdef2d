package probe

import (
	"context"
	"strconv"
	"strings"
)

const nvidiaQuery = "name,driver_version,memory.total,memory.used,utilization.gpu"

// readNVIDIA asks the driver's own tool about the first GPU.
func readNVIDIA(ctx context.Context, run runner, g *GPU) {
	text, err := run(ctx, "nvidia-smi", "--query-gpu="+nvidiaQuery, "--format=csv,noheader,nounits")
	if err != nil {
		explainAll(err.Error(), g)
		return
	}
	decodeNVIDIA(text, g)
}

// decodeNVIDIA takes the first line of nvidia-smi's answer to nvidiaQuery.
func decodeNVIDIA(answer string, g *GPU) {
	line, _, _ := strings.Cut(strings.TrimSpace(answer), "\n")
	fields := strings.Split(line, ",")
	names := strings.Split(nvidiaQuery, ",")
	if len(fields) != len(names) {
		explainAll("nvidia-smi answered something else than was asked", g)
		return
	}
	for i := range fields {
		fields[i] = strings.TrimSpace(fields[i])
		names[i] = "nvidia-smi " + names[i]
	}
	text := func(i int) Value[string] {
		if fields[i] == "" || strings.HasPrefix(fields[i], "[") { // "[N/A]", "[Not Supported]"
			return Unknown[string]("the driver does not say", names[i])
		}
		return Known(fields[i], names[i])
	}
	number := func(i int, largest int64) Value[int64] {
		n, err := strconv.ParseInt(fields[i], 10, 64)
		if err != nil || n < 0 || n > largest {
			return Unknown[int64]("the driver does not say", names[i])
		}
		return Known(n, names[i])
	}
	mib := func(i int) Value[int64] {
		v := number(i, 1<<40)
		if n, ok := v.Get(); ok {
			return Known(n<<20, names[i])
		}
		return v
	}
	g.Name, g.DriverVersion = text(0), text(1)
	g.MemoryBytes, g.UsedBytes = mib(2), mib(3)
	g.UtilizationPercent = asInt(number(4, 100))
}

func asInt(v Value[int64]) Value[int] {
	if n, ok := v.Get(); ok {
		return Known(int(n), v.Source())
	}
	return Unknown[int](v.Reason(), v.Source())
}
