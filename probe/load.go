package probe

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
)

// maxSnapshotBytes bounds what LoadSnapshot takes; a snapshot with a large
// model's tensors has a few hundred kilobytes.
const maxSnapshotBytes = 64 << 20

// LoadSnapshot reads a snapshot that was saved as JSON, on this machine or
// another: alone, or as the member "snapshot" of a report. Fields that this
// version does not know are ignored.
func LoadSnapshot(r io.Reader) (Snapshot, error) {
	raw, err := io.ReadAll(io.LimitReader(r, maxSnapshotBytes+1))
	if err != nil {
		return Snapshot{}, fmt.Errorf("load snapshot: %w", err)
	}
	s, err := decodeSnapshot(raw)
	if err != nil {
		return Snapshot{}, fmt.Errorf("load snapshot: %w; save one with `mlxdyno doctor --snapshot-out FILE` on the machine in question", err)
	}
	return s, nil
}

func decodeSnapshot(raw []byte) (Snapshot, error) {
	if len(raw) > maxSnapshotBytes {
		return Snapshot{}, fmt.Errorf("larger than %d MiB, which no snapshot is", maxSnapshotBytes>>20)
	}
	if len(bytes.TrimSpace(raw)) == 0 {
		return Snapshot{}, errors.New("the file is empty")
	}
	var document struct {
		Schema   string          `json:"schema"`
		Snapshot json.RawMessage `json:"snapshot"`
	}
	if err := json.Unmarshal(raw, &document); err != nil {
		return Snapshot{}, fmt.Errorf("not a JSON document: %w", err)
	}
	switch {
	case document.Schema == SnapshotSchema:
	case strings.HasPrefix(document.Schema, path.Dir(SnapshotSchema)+"/"):
		return Snapshot{}, fmt.Errorf("schema %s, but this version reads %s", document.Schema, SnapshotSchema)
	case document.Snapshot != nil:
		return decodeSnapshot(document.Snapshot)
	case document.Schema == "":
		return Snapshot{}, errors.New("the document names no schema, so it is not a snapshot")
	default:
		return Snapshot{}, fmt.Errorf("the document is %q and holds no snapshot", document.Schema)
	}
	var s Snapshot
	if err := json.Unmarshal(raw, &s); err != nil {
		return Snapshot{}, fmt.Errorf("not a valid snapshot: %w", err)
	}
	if s.Host.OS == "" {
		return Snapshot{}, errors.New("host.os is missing")
	}
	return s, nil
}
