package model

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// hubName is what a model is called on the hub: "org/name".
var hubName = regexp.MustCompile(`^[A-Za-z0-9][\w.-]*/[\w.-]+$`)

// Resolve returns the directory of a model that is named by its directory or,
// when it has been downloaded, by its name on the hub. It looks where
// Hugging Face's own tools keep downloads (HF_HUB_CACHE, HF_HOME, or
// ~/.cache/huggingface) and downloads nothing.
func Resolve(name string) (string, error) {
	if info, err := os.Stat(name); err == nil && info.IsDir() {
		return name, nil
	}
	if !hubName.MatchString(name) {
		return name, nil // Read says what is wrong with it
	}
	root, err := hubCache()
	if err != nil {
		return name, nil
	}
	repo := filepath.Join(root, "models--"+strings.ReplaceAll(name, "/", "--"))
	commit, err := os.ReadFile(filepath.Join(repo, "refs", "main"))
	if err != nil {
		return "", &Error{
			Code: CodeMissing,
			Path: name,
			Text: "no directory of that name, and the hub's model of that name has not been downloaded",
			Hint: fmt.Sprintf("download it first: hf download %s", name),
		}
	}
	dir := filepath.Join(repo, "snapshots", strings.TrimSpace(string(commit)))
	if _, err := os.Stat(filepath.Join(dir, "config.json")); err != nil {
		return "", &Error{
			Code: CodeMissing,
			Path: dir,
			Text: "the download of " + name + " is not complete",
			Hint: fmt.Sprintf("finish it: hf download %s", name),
		}
	}
	return dir, nil
}

func hubCache() (string, error) {
	if dir := os.Getenv("HF_HUB_CACHE"); dir != "" {
		return dir, nil
	}
	if dir := os.Getenv("HF_HOME"); dir != "" {
		return filepath.Join(dir, "hub"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(home, ".cache", "huggingface", "hub"), nil
}
