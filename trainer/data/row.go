package data

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"unicode/utf8"
)

// formatOf tells a row's format by its keys, in the order in which mlx-lm asks.
func formatOf(row map[string]json.RawMessage) string {
	has := func(key string) bool { _, ok := row[key]; return ok }
	switch {
	case has("prompt") && has("completion"):
		return FormatCompletions
	case has("messages"):
		return FormatChat
	case has("text"):
		return FormatText
	}
	return ""
}

// parseRow reads one line as a JSON object.
func parseRow(line []byte) (map[string]json.RawMessage, error) {
	switch {
	case bytes.IndexByte(line, 0) >= 0:
		return nil, errors.New("contains a NUL byte: the file is binary, or was torn while it was written")
	case !utf8.Valid(line):
		return nil, fmt.Errorf("is not valid UTF-8 at byte %d", firstInvalid(line)+1)
	}
	var row map[string]json.RawMessage
	if err := json.Unmarshal(line, &row); err != nil {
		if syntax := (*json.SyntaxError)(nil); errors.As(err, &syntax) {
			return nil, fmt.Errorf("is not JSON: %w at byte %d", syntax, syntax.Offset)
		}
		return nil, errors.New("is JSON, but not an object")
	}
	if row == nil {
		return nil, errors.New("is JSON, but not an object")
	}
	return row, nil
}

func firstInvalid(b []byte) int {
	i := 0
	for i < len(b) {
		r, n := utf8.DecodeRune(b[i:])
		if r == utf8.RuneError && n == 1 {
			break
		}
		i += n
	}
	return i
}

// checkRow reports what makes a row unusable in a file of the given format.
func checkRow(row map[string]json.RawMessage, format string) error {
	switch format {
	case FormatCompletions:
		for _, key := range []string{"prompt", "completion"} {
			if err := needText(row, key); err != nil {
				return err
			}
		}
	case FormatChat:
		if err := checkMessages(row["messages"]); err != nil {
			return err
		}
	case FormatText:
		return needText(row, "text")
	}
	if tools, ok := row["tools"]; ok && !isNull(tools) && tools[0] != '[' {
		return errors.New(`"tools" is not a list`)
	}
	return nil
}

func needText(row map[string]json.RawMessage, key string) error {
	v, ok := row[key]
	switch {
	case !ok:
		return fmt.Errorf("has no %q, unlike the first row", key)
	case v[0] != '"':
		return fmt.Errorf("%q is not a text", key)
	}
	return nil
}

func checkMessages(raw json.RawMessage) error {
	switch {
	case raw == nil:
		return errors.New(`has no "messages", unlike the first row`)
	case raw[0] != '[':
		return errors.New(`"messages" is not a list`)
	}
	var messages []json.RawMessage
	if err := json.Unmarshal(raw, &messages); err != nil {
		return err
	}
	if len(messages) == 0 {
		return errors.New(`"messages" is empty`)
	}
	for i, m := range messages {
		var fields map[string]json.RawMessage
		if m[0] != '{' {
			return fmt.Errorf("message %d is not an object", i+1)
		}
		if err := json.Unmarshal(m, &fields); err != nil {
			return err
		}
		if role := fields["role"]; role == nil || role[0] != '"' {
			return fmt.Errorf(`message %d has no "role" that is a text`, i+1)
		}
		content := fields["content"]
		missing := content == nil || isNull(content)
		if missing && fields["tool_calls"] != nil {
			continue
		}
		if missing || (content[0] != '"' && content[0] != '[') { // some templates take a list of parts
			return fmt.Errorf(`message %d has no "content" that is a text`, i+1)
		}
	}
	return nil
}

func isNull(raw json.RawMessage) bool { return string(raw) == "null" }
