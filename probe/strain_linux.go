package probe

import "os"

func platformStrain() Strain { return live().strain() }

func platformKills() Value[int64] { return live().kills() }

func live() procfs { return procfs{root: os.DirFS("/"), pageBytes: int64(os.Getpagesize())} }
