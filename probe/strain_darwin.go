package probe

import (
	"context"
	"time"

	"golang.org/x/sys/unix"
)

func platformStrain() Strain {
	get := sysctl(func(name string) ([]byte, error) { return unix.SysctlRaw(name) })
	s := Strain{Level: get.pressure()}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	text, err := output(ctx, "/usr/bin/vm_stat")
	if err != nil {
		s.SwapOutBytes = Unknown[int64](err.Error(), "vm_stat")
		return s
	}
	var all Snapshot
	decodeVMStat(text, &all)
	s.SwapOutBytes = all.Swap.OutBytes
	return s
}

func platformBusy() Value[int] {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	return busyOf(ctx, output)
}

func platformKills() Value[int64] { return Unknown[int64]("is not counted on this system", "") }
