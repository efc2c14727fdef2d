//go:build !linux && !darwin

package probe

func platformStrain() Strain {
	const why = "cannot be read on this system"
	return Strain{SwapOutBytes: Unknown[int64](why, ""), Level: Unknown[PressureLevel](why, "")}
}

func platformBusy() Value[int] { return Unknown[int]("cannot be read on this system", "") }

func platformKills() Value[int64] { return Unknown[int64]("is not counted on this system", "") }
