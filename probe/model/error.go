package model

import "strings"

// Codes of Error.
const (
	CodeMissing       = "model.missing"        // nothing at the path
	CodeNotDirectory  = "model.not-directory"  // a file where a directory belongs
	CodeUnreadable    = "model.unreadable"     // the system refused
	CodeConfigMissing = "model.config-missing" // no config.json
	CodeConfigBroken  = "model.config-broken"  // config.json says nothing usable
	CodeNoWeights     = "model.no-weights"     // no safetensors file
	CodeFormat        = "model.format"         // weights, but in another format
	CodePointer       = "model.lfs-pointer"    // a Git LFS pointer instead of weights
	CodeIndexBroken   = "model.index-broken"   // model.safetensors.index.json is not usable
	CodeShardMissing  = "model.shard-missing"  // the index names a file that is not there
	CodeHeader        = "model.header"         // a safetensors header is not one
	CodeTruncated     = "model.truncated"      // a file ends before its last tensor
	CodeOffsets       = "model.offsets"        // tensors overlap, leave gaps, or have another size than their shape
	CodeDType         = "model.dtype"          // a tensor type that safetensors does not define
	CodeQuantization  = "model.quantization"   // packed weights that fit no bits and group size
)

// Error says why a model could not be read, and what to do next.
type Error struct {
	Code string // one of the Code constants
	Path string // the file or directory concerned
	Text string // what is wrong with it
	Hint string // what to do next

	// ExpectedBytes and ActualBytes are sizes of Path when the code is
	// CodeTruncated.
	ExpectedBytes, ActualBytes int64

	err error
}

func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString("read model: ")
	if e.Path != "" {
		b.WriteString(e.Path + ": ")
	}
	b.WriteString(e.Text)
	if e.Hint != "" {
		b.WriteString(": " + e.Hint)
	}
	return b.String()
}

// Unwrap returns the system's error, if there was one.
func (e *Error) Unwrap() error { return e.err }

const downloadAgain = "download the file again, for example with `hf download`, which checks what it has"
