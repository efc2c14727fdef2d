package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/user"

	"github.com/mlxdyno/mlxdyno/probe"
	"github.com/mlxdyno/mlxdyno/probe/redact"
	"github.com/mlxdyno/mlxdyno/report"
)

// loadSnapshot reads a saved snapshot.
func loadSnapshot(path string) (*probe.Snapshot, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, usagef("read snapshot: %v", err)
	}
	defer file.Close()
	s, err := probe.LoadSnapshot(file)
	if err != nil {
		return nil, &userError{Code: "snapshot", Message: fmt.Sprintf("%s: %v", path, err), Hint: "take one with mlxdyno doctor --snapshot-out FILE on the machine in question", Status: statusOurs}
	}
	return &s, nil
}

// saveSnapshot writes a snapshot without what tells whose machine it is.
func (a *app) saveSnapshot(path string, s probe.Snapshot) error {
	text, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("save snapshot: %w", err)
	}
	if text, err = redactor().JSON(text); err != nil {
		return fmt.Errorf("save snapshot: %w", err)
	}
	var safe probe.Snapshot // in the order of its members again
	if err := json.Unmarshal(text, &safe); err != nil {
		return fmt.Errorf("save snapshot: %w", err)
	}
	var b bytes.Buffer
	if err := report.JSON(&b, safe); err != nil {
		return err
	}
	if err := writeWhole(path, b.Bytes()); err != nil {
		return cannotWrite("snapshot", path, err)
	}
	a.progress("wrote %s; to diagnose from it, anywhere: mlxdyno doctor --snapshot %s", path, path)
	return nil
}

func cannotWrite(what, path string, err error) error {
	return &userError{Code: "doctor.write", Message: fmt.Sprintf("write %s to %s: %v", what, path, err),
		Hint: "name a file in a directory that is there, that can be written, and has room", Status: statusOurs}
}

// redactor knows whose machine this is.
func redactor() *redact.Redactor {
	w := redact.Who{Environ: os.Environ()}
	if home, err := os.UserHomeDir(); err == nil {
		w.Homes = append(w.Homes, home)
	}
	if u, err := user.Current(); err == nil {
		w.Homes = append(w.Homes, u.HomeDir)
		w.Users = append(w.Users, u.Username, u.Name)
	}
	for _, name := range []string{"USER", "LOGNAME", "SUDO_USER"} {
		w.Users = append(w.Users, os.Getenv(name))
	}
	if host, err := os.Hostname(); err == nil {
		w.Hosts = append(w.Hosts, host)
	}
	return redact.New(w)
}
