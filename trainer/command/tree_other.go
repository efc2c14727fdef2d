//go:build !linux && !darwin

package command

import "errors"

func processes() ([]process, error) {
	return nil, errors.New("processes cannot be listed on this system")
}

func inherits(int, []byte) bool { return false }
