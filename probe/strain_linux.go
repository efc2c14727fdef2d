package probe

import "os"

func platformStrain() Strain { return live().strain() }

func platformKills() Value[int64] { return live().kills() }

func platformBusy() Value[int] {
	r, err := readNVML(nvmlLibrary)
	if err != nil {
		return Unknown[int](err.Error(), "nvml")
	}
	var s Snapshot
	decodeNVML(r, &s)
	return s.GPU.UtilizationPercent
}

func live() procfs { return procfs{root: os.DirFS("/"), pageBytes: int64(os.Getpagesize())} }
