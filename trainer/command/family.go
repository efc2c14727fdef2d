package command

import "slices"

// Family returns a process and what descends from it now, in order. It is empty
// when the process is not there, or has ended and was not reaped.
func Family(pid int) ([]int, error) {
	table, err := processes()
	if err != nil {
		return nil, err
	}
	return familyOf(pid, table), nil
}

func familyOf(pid int, table []process) []int {
	i := slices.IndexFunc(table, func(p process) bool { return p.pid == pid && !p.gone })
	if i < 0 {
		return nil
	}
	out := []int{pid}
	for k := 0; k < len(out); k++ {
		for _, p := range table {
			if p.parent == out[k] && !p.gone && !slices.Contains(out, p.pid) {
				out = append(out, p.pid)
			}
		}
	}
	slices.Sort(out[1:])
	return out
}
