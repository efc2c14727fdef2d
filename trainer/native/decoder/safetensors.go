package decoder

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/mlxdyno/mlxdyno/mlxbind"
)

// maxHeader is the largest header that safetensors allows.
const maxHeader = 100 << 20

// checkWhole says whether a safetensors file holds all bytes that its header
// promises: MLX neither notices a full disk when it writes nor, in some versions,
// a truncated file before it computes with it.
func checkWhole(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	want, err := promised(f)
	if err != nil {
		return fmt.Errorf("%s is damaged: %w", filepath.Base(path), err)
	}
	if info.Size() != want {
		return fmt.Errorf("%s is damaged: it has %d bytes and should have %d", filepath.Base(path), info.Size(), want)
	}
	return nil
}

// promised is the size of a safetensors file by its header.
func promised(r io.Reader) (int64, error) {
	var size [8]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return 0, errors.New("it ends before its header")
	}
	n := binary.LittleEndian.Uint64(size[:])
	if n > maxHeader {
		return 0, errors.New("it is no safetensors file")
	}
	text, err := io.ReadAll(io.LimitReader(r, int64(n)))
	if err != nil || uint64(len(text)) != n {
		return 0, errors.New("it ends within its header")
	}
	var tensors map[string]struct {
		Offsets [2]int64 `json:"data_offsets"`
	}
	if err := json.Unmarshal(text, &tensors); err != nil {
		return 0, errors.New("it is no safetensors file")
	}
	var end int64
	for _, t := range tensors {
		end = max(end, t.Offsets[1])
	}
	return 8 + int64(n) + end, nil
}

// saveArrays writes a safetensors file and makes sure that all of it is there.
func saveArrays(s *mlxbind.Scope, path string, arrays map[string]mlxbind.Array) error {
	if err := s.SaveSafetensors(path, arrays); err != nil {
		return err
	}
	return checkWhole(path)
}
