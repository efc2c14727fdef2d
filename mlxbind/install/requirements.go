package install

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"strings"
)

//go:embed requirements/*.txt
var requirementFiles embed.FS

// requirements returns the complete text of pip's requirements file for a
// wheel kind: cpu, metal, cuda12 or cuda13.
func requirements(kind string) (string, error) {
	common, err := requirementFiles.ReadFile("requirements/common.txt")
	if err != nil {
		return "", err
	}
	own, err := requirementFiles.ReadFile("requirements/" + kind + ".txt")
	if err != nil {
		return "", fmt.Errorf("no package list for backend %q", kind)
	}
	return string(common) + string(own), nil
}

// pins returns the packages of a requirements text with their versions.
func pins(text string) map[string]string {
	list := map[string]string{}
	for line := range strings.Lines(text) {
		if name, version, ok := strings.Cut(strings.TrimSpace(line), "=="); ok {
			list[name] = version
		}
	}
	return list
}

// recipe is a hash over everything that decides what a managed environment
// contains. An environment made by another recipe is stale.
func recipe(kind string) (string, error) {
	text, err := requirements(kind)
	if err != nil {
		return "", err
	}
	h := sha256.New()
	for _, part := range []string{stampSchema, text, forwardSource, preloadModule, preloadHook} {
		fmt.Fprintf(h, "%d:%s", len(part), part)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
