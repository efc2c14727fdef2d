package model

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// A fingerprint reads this many pieces of this size of every file, evenly
// spaced, the first and the last among them.
const (
	fingerPieces = 32
	fingerBytes  = 4096
)

// Fingerprint identifies the weights themselves, which Key does not: two
// fine-tunes of one base have one Key. It reads samples of the files, not all of
// them, so that a change of a few values in one place can escape it.
func (f *Facts) Fingerprint() (string, error) {
	h := sha256.New()
	io.WriteString(h, f.Key) //nolint:errcheck // a hash takes everything
	piece := make([]byte, fingerBytes)
	for _, file := range f.Files {
		in, err := os.Open(filepath.Join(f.Path, file.Name))
		if err != nil {
			return "", fmt.Errorf("read weights: %w", err)
		}
		defer in.Close()
		binary.Write(h, binary.LittleEndian, file.Bytes) //nolint:errcheck // a hash takes everything
		for i := range int64(fingerPieces) {
			at := max(0, file.Bytes-fingerBytes) * i / (fingerPieces - 1)
			n, err := in.ReadAt(piece, at)
			if err != nil && err != io.EOF {
				return "", fmt.Errorf("read weights: %w", err)
			}
			h.Write(piece[:n])
		}
	}
	return hex.EncodeToString(h.Sum(nil)[:8]), nil
}
