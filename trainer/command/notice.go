package command

import (
	"regexp"
	"strings"

	"github.com/mlxdyno/mlxdyno/trainer"
)

// noticeText is the longest text of a notice that is kept, in bytes.
const noticeText = 500

func notice(level NoticeLevel, code, text string) *Notice {
	text = strings.TrimSpace(text)
	if len(text) > noticeText {
		text = strings.ToValidUTF8(text[:noticeText], "") + "…"
	}
	return &Notice{Level: level, Code: code, Text: text}
}

// outOfMemory are words by which allocators, MLX and Python tell that memory
// was not to be had, in lower case. "Memory" alone is no such word.
func outOfMemory(lower string) bool {
	for _, words := range []string{
		"out of memory", "outofmemory", "bad_alloc", "insufficient memory", "cannot allocate memory", "unable to allocate",
		"[metal::malloc]", "[malloc] unable", "memory allocation of",
	} {
		if strings.Contains(lower, words) {
			return true
		}
	}
	return strings.HasPrefix(lower, "memoryerror")
}

// raised is the last line of a Python traceback.
var raised = regexp.MustCompile(`^(?:[A-Za-z_][\w]*\.)*[A-Z]\w*(?:Error|Exception|Interrupt|Exit)(?::|$)`)

// noticeIn finds words that any program may end with. Most lines have none, so
// the tests are cheap.
func noticeIn(line string) *Notice {
	trimmed := strings.TrimSpace(line)
	if trimmed == "" || len(trimmed) > 64<<10 {
		return nil
	}
	failed := func(code string, kind trainer.FailKind) *Notice {
		n := notice(ErrorNotice, code, trimmed)
		n.Fail = kind
		return n
	}
	lower := strings.ToLower(trimmed[:min(len(trimmed), 2048)])
	switch {
	case strings.Contains(lower, "resource limit") && strings.Contains(lower, "exceeded"):
		return failed("patient.resource-limit", trainer.FailInternal)
	case outOfMemory(lower):
		return failed("patient.out-of-memory", trainer.FailOOM)
	case strings.HasPrefix(trimmed, "KeyboardInterrupt"):
		return notice(InfoNotice, "patient.interrupted", trimmed)
	case trimmed[0] <= 'z' && raised.MatchString(trimmed):
		return failed("patient.exception", trainer.FailInternal)
	case strings.HasPrefix(trimmed, "thread '") && strings.Contains(trimmed, "panicked at"), strings.HasPrefix(trimmed, "panic: "):
		return failed("patient.panic", trainer.FailInternal)
	case strings.HasPrefix(lower, "libc++abi: terminating"), strings.HasPrefix(lower, "terminate called"):
		return failed("patient.terminated", trainer.FailInternal)
	case strings.HasPrefix(lower, "error: "), strings.HasPrefix(lower, "error:\t"), strings.HasPrefix(lower, "fatal: "), strings.Contains(lower, ": error: "):
		return failed("patient.error", trainer.FailInternal)
	case strings.HasPrefix(lower, "warning: "), strings.HasPrefix(lower, "[warning] "), strings.Contains(lower, "warning: "):
		return notice(WarningNotice, "patient.warning", trimmed)
	}
	return nil
}
