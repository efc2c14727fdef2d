package probe

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

// maxSnapshotBytes bounds what LoadSnapshot takes; a snapshot with a large
// model's tensors has a few hundred kilobytes.
const maxSnapshotBytes = 64 << 20

// LoadSnapshot reads a snapshot that was saved as JSON, on this machine or
// another. Fields that this version does not know are ignored.
func LoadSnapshot(r io.Reader) (Snapshot, error) {
	raw, err := io.ReadAll(io.LimitReader(r, maxSnapshotBytes+1))
	if err != nil {
		return Snapshot{}, fmt.Errorf("load snapshot: %w", err)
	}
	s, err := decodeSnapshot(raw)
	if err != nil {
		return Snapshot{}, fmt.Errorf("load snapshot: %w; make one with `mlxdyno doctor --snapshot FILE`", err)
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
	var head struct {
		Schema string `json:"schema"`
	}
	if err := json.Unmarshal(raw, &head); err != nil {
		return Snapshot{}, fmt.Errorf("not a JSON document: %w", err)
	}
	switch family, _, _ := cutLast(SnapshotSchema, "/"); {
	case head.Schema == SnapshotSchema:
	case head.Schema == "":
		return Snapshot{}, errors.New("the document names no schema, so it is not a snapshot")
	case strings.HasPrefix(head.Schema, family+"/"):
		return Snapshot{}, fmt.Errorf("schema %s, but this version reads %s; use the version of mlxdyno that made it", head.Schema, SnapshotSchema)
	default:
		return Snapshot{}, fmt.Errorf("the document is %q, not a snapshot", head.Schema)
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

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}
