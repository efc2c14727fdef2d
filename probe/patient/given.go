package patient

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Help is what a program's --help names.
type Help struct{ Flags []string }

var helpFlag = regexp.MustCompile(`(?:^|[\s,\[(|/])(--?[A-Za-z0-9][A-Za-z0-9_-]*)`)

// ParseHelp finds the flags that a --help text names.
func ParseHelp(text string) Help {
	var h Help
	for line := range strings.Lines(text) {
		// A description may name a flag of another program: only what stands
		// before it counts, as in "  -m, --model <NAME>  The model".
		trimmed := strings.TrimSpace(line)
		if !strings.HasPrefix(trimmed, "-") && !strings.HasPrefix(strings.ToLower(trimmed), "usage:") && !strings.HasPrefix(trimmed, "[") {
			continue
		}
		if head, _, ok := strings.Cut(trimmed, "  "); ok && strings.HasPrefix(trimmed, "-") {
			trimmed = head
		}
		for _, m := range helpFlag.FindAllStringSubmatch(trimmed, -1) {
			if !slices.Contains(h.Flags, m[1]) {
				h.Flags = append(h.Flags, m[1])
			}
		}
	}
	return h
}

// Has says whether the help names a flag.
func (h Help) Has(flag string) bool { return slices.Contains(h.Flags, flag) }

// Flags are the long flags of a command line.
func Flags(argv []string) []string {
	var out []string
	for _, a := range argv {
		if a == "--" {
			break
		}
		if !strings.HasPrefix(a, "--") || len(a) < 3 {
			continue
		}
		name, _, _ := strings.Cut(a, "=")
		if !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	return out
}

const maxLocked = 10_000

// ParseLock reads the versions of packages from a Cargo.lock. Of a package that
// is there twice, the older one counts: that is what a warning is about.
func ParseLock(text string) (map[string]string, error) {
	out := map[string]string{}
	name := ""
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "[[package]]" {
			name = ""
			continue
		}
		key, value, ok := strings.Cut(line, " = ")
		if !ok || len(value) < 2 || value[0] != '"' || value[len(value)-1] != '"' {
			continue
		}
		value = value[1 : len(value)-1]
		switch {
		case key == "name":
			name = value
		case key == "version" && name != "":
			if before, ok := out[name]; len(out) < maxLocked && (!ok || Older(value, before)) {
				out[name] = value
			}
			name = ""
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("it names no package with a version: want a Cargo.lock")
	}
	return out, nil
}

// Older compares versions by their numbers.
func Older(a, b string) bool {
	x, y := strings.Split(a, "."), strings.Split(b, ".")
	for i := range max(len(x), len(y)) {
		m, n := part(x, i), part(y, i)
		if m != n {
			return m < n
		}
	}
	return false
}

func part(v []string, i int) int {
	if i >= len(v) {
		return 0
	}
	digits := v[i]
	if end := strings.IndexFunc(digits, func(r rune) bool { return r < '0' || r > '9' }); end >= 0 {
		digits = digits[:end]
	}
	n, err := strconv.Atoi(digits)
	if err != nil {
		return 0
	}
	return n
}

// Claim is what somebody says of a training's speed.
type Claim struct {
	Text string
	Low  float64 // of what is claimed: equal to High for one number
	High float64
	Unit string // steps/s or tokens/s
}

var claim = regexp.MustCompile(`^~?\s*([0-9]+(?:\.[0-9]+)?)\s*(?:(?:-|–|to)\s*([0-9]+(?:\.[0-9]+)?))?\s*(steps?|its?|iterations?|tok|toks|tokens?)\s*(?:/|per)\s*s(?:ec(?:ond)?)?$`)

// ParseClaim reads a speed such as "8 steps/s", "40-60 it/s" or "500 tok/s".
func ParseClaim(text string) (Claim, error) {
	m := claim.FindStringSubmatch(strings.ToLower(strings.TrimSpace(text)))
	if m == nil {
		return Claim{}, fmt.Errorf("%q is no speed: want a number of steps/s or tokens/s, such as \"8 steps/s\" or \"40-60 steps/s\"", text)
	}
	c := Claim{Text: strings.TrimSpace(text), Unit: "steps/s"}
	c.Low, _ = strconv.ParseFloat(m[1], 64)
	c.High = c.Low
	if m[2] != "" {
		c.High, _ = strconv.ParseFloat(m[2], 64)
	}
	if strings.HasPrefix(m[3], "tok") {
		c.Unit = "tokens/s"
	}
	if !(c.Low > 0) || c.High < c.Low || c.High > 1e12 {
		return Claim{}, fmt.Errorf("%q is no speed: want numbers above 0, the lower one first", text)
	}
	return c, nil
}
