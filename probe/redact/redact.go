// Package redact takes out of text what tells who and where: home directories,
// users, hosts, secrets, the environment and the training text. What it leaves
// is meant to be handed to strangers.
//
// It errs on the side of privacy: a word too many is taken out rather than one
// too few. It knows patterns and what its caller names; a secret of unknown
// form that looks like an ordinary word stays.
package redact

import (
	"bytes"
	"encoding/json"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
)

// Who is what the caller knows of the place.
type Who struct {
	Homes   []string // directories
	Users   []string // names, of login and of person
	Hosts   []string
	Environ []string // NAME=value
}

// Redactor takes things out. Make one with New.
type Redactor struct {
	homes  []string // longest first
	names  []rule
	values []string // secrets, as they are, longest first

	environment *regexp.Regexp  // variables by their names, and their values
	text        map[string]bool // shingles of the training text; see Learn
}

type rule struct {
	re   *regexp.Regexp
	with string
}

// ordinary are words that are no name of anybody although users and hosts are
// called so: to take them out would take the sense out.
var ordinary = []string{"root", "user", "admin", "runner", "ubuntu", "debian", "localhost", "localdomain", "local", "home", "mac", "macbook", "linux", "darwin", "python", "mlx", "model", "data", "dev", "test"}

// New returns a redactor.
func New(w Who) *Redactor {
	r := &Redactor{}
	for _, h := range w.Homes {
		if h = strings.TrimRight(h, `/\`); len(h) > 1 {
			r.homes = append(r.homes, h)
		}
	}
	longestFirst(r.homes)
	users := slices.Clone(w.Users)
	longestFirst(users)
	for _, n := range users {
		r.name(n, "[user]")
	}
	for _, h := range w.Hosts {
		r.name(h, "[host]")
		short, _, _ := strings.Cut(h, ".")
		r.name(short, "[host]")
	}
	var names []string
	for _, kv := range w.Environ {
		name, value, ok := strings.Cut(kv, "=")
		if !ok || len(name) < 3 {
			continue
		}
		names = append(names, regexp.QuoteMeta(name))
		if secretName.MatchString(name) && len(value) >= 6 {
			r.values = append(r.values, value)
		}
	}
	longestFirst(r.values)
	if len(names) > 0 {
		longestFirst(names)
		// As env prints it, as a shell sets it, as Python shows os.environ.
		r.environment = regexp.MustCompile(`(?m)((?:^|[^\w])['"]?(?:` + strings.Join(names, "|") + `)['"]?\s*[=:]\s*)('[^'\n]*'|"(?:[^"\\\n]|\\.)*"|[^\s,'"][^\s,]*)`)
	}
	return r
}

func (r *Redactor) name(name, with string) {
	name = strings.TrimSpace(name)
	if len([]rune(name)) < 3 || slices.Contains(ordinary, strings.ToLower(name)) {
		return
	}
	r.names = append(r.names, rule{regexp.MustCompile(`(^|[^\pL\pN])(?i:` + regexp.QuoteMeta(name) + `)($|[^\pL\pN])`), "${1}" + with + "${2}"})
}

func longestFirst(s []string) {
	slices.SortFunc(s, func(a, b string) int { return len(b) - len(a) })
}

// assignment is a line of an environment, whoever's it is.
var assignment = regexp.MustCompile(`(?m)^(\s*(?:export |declare -x )?[A-Z_][A-Z0-9_]{2,}=).*$`)

var secretName = regexp.MustCompile(`(?i)(key|token|secret|passw|passphrase|credential|auth|cookie|private|session)`)

// known are secrets that can be told by their looks, and who and where in
// general form.
var known = []rule{
	{regexp.MustCompile(`(?s)-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|$)`), "[secret]"},
	{regexp.MustCompile(`\bhf_[A-Za-z0-9]{8,}`), "[secret]"},
	{regexp.MustCompile(`\b(?:sk|pk|rk)-[A-Za-z0-9_\-]{12,}`), "[secret]"},
	{regexp.MustCompile(`\bgh[pousr]_[A-Za-z0-9]{16,}`), "[secret]"},
	{regexp.MustCompile(`\bgithub_pat_[A-Za-z0-9_]{16,}`), "[secret]"},
	{regexp.MustCompile(`\bglpat-[A-Za-z0-9_\-]{12,}`), "[secret]"},
	{regexp.MustCompile(`\bxox[abeoprs]-[A-Za-z0-9\-]{8,}`), "[secret]"},
	{regexp.MustCompile(`\b(?:AKIA|ASIA)[A-Z0-9]{12,}`), "[secret]"},
	{regexp.MustCompile(`\bAIza[A-Za-z0-9_\-]{20,}`), "[secret]"},
	{regexp.MustCompile(`\beyJ[A-Za-z0-9_\-]{8,}\.[A-Za-z0-9_\-]{4,}(?:\.[A-Za-z0-9_\-]*)?`), "[secret]"},
	{regexp.MustCompile(`(?i)\b(bearer|basic)\s+[A-Za-z0-9+/=._\-]{8,}`), "$1 [secret]"},
	{regexp.MustCompile(`(?i)((?:api[_-]?key|access[_-]?key|[a-z0-9_\-]*token|passwo?r?d|passphrase|secret|authorization|credentials?|cookie)["']?\s*[=:]\s*["']?)([^\s"',}\]&]{3,})`), "$1[secret]"},
	{regexp.MustCompile(`(://)[^\s/@:]+(?::[^\s/@]*)?@`), "$1[secret]@"},
	{regexp.MustCompile(`(?i)\b[a-z0-9._%+\-]+@[a-z0-9.\-]+\.[a-z]{2,}\b`), "[email]"},
	{regexp.MustCompile(`(?:/Users|/home|/var/home|/export/home|/data/home)/[^/\s"'<>|:]+`), "~"},
	{regexp.MustCompile(`(?i)[a-z]:\\+Users\\+[^\\\s"'<>|:]+`), "~"},
	{regexp.MustCompile(`/(?:private/)?var/folders/[^/\s]+/[^/\s]+`), "[tmp]"},
}

// counted are words that end like the name of a secret and are none, with a
// number as their value: counts of tokens are most of what reports hold.
var counted = regexp.MustCompile(`^[0-9][0-9.,eE+\-]*$`)

// Text returns s without what tells who and where.
func (r *Redactor) Text(s string) string {
	s = r.withoutText(s)
	for _, v := range r.values {
		s = strings.ReplaceAll(s, v, "[secret]")
	}
	for _, h := range r.homes {
		s = replacePath(s, h, "~")
	}
	s = assignment.ReplaceAllString(s, "${1}[environment]")
	if re := r.environment; re != nil {
		s = re.ReplaceAllString(s, "${1}[environment]")
	}
	for _, k := range known {
		if k.re.NumSubexp() == 2 {
			s = k.re.ReplaceAllStringFunc(s, func(m string) string {
				parts := k.re.FindStringSubmatch(m)
				if counted.MatchString(parts[2]) || strings.HasPrefix(parts[2], "[") {
					return m
				}
				return parts[1] + "[secret]"
			})
			continue
		}
		s = k.re.ReplaceAllString(s, k.with)
	}
	for _, n := range r.names {
		for range 2 { // neighbours share the character between them
			s = n.re.ReplaceAllString(s, n.with)
		}
	}
	return s
}

// replacePath replaces a directory where it is one: not in front of more of a
// name.
func replacePath(s, dir, with string) string {
	var b strings.Builder
	for {
		i := strings.Index(s, dir)
		if i < 0 {
			b.WriteString(s)
			return b.String()
		}
		end := i + len(dir)
		b.WriteString(s[:i])
		if end < len(s) && isNamePart(s[end]) {
			b.WriteString(dir)
		} else {
			b.WriteString(with)
		}
		s = s[end:]
	}
}

func isNamePart(c byte) bool {
	return c == '_' || c == '-' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

// JSON returns a document with every string in it redacted, names of members
// too. A member whose name is that of a secret loses its value, if that is a
// string.
func (r *Redactor) JSON(document []byte) ([]byte, error) {
	d := json.NewDecoder(bytes.NewReader(document))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, fmt.Errorf("redact document: %w", err)
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(r.value(v, "")); err != nil {
		return nil, fmt.Errorf("redact document: %w", err)
	}
	return b.Bytes(), nil
}

func (r *Redactor) value(v any, name string) any {
	switch v := v.(type) {
	case string:
		if v != "" && secretMember.MatchString(name) {
			return "[secret]"
		}
		return r.Text(v)
	case []any:
		for i := range v {
			v[i] = r.value(v[i], name)
		}
	case map[string]any:
		out := make(map[string]any, len(v))
		for k, member := range v {
			out[r.Text(k)] = r.value(member, k)
		}
		return out
	}
	return v
}

var secretMember = regexp.MustCompile(`(?i)^(.*[_-])?(api_?key|access_?key|token|secret|password|passphrase|credentials?|authorization|cookie)$`)

// Path returns a path without whose it is, for the name of a file.
func (r *Redactor) Path(p string) string { return r.Text(path.Clean(p)) }
