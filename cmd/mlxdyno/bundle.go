package main

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/mlxdyno/mlxdyno/mlxbind/install"
	"github.com/mlxdyno/mlxdyno/probe/diagnose"
	"github.com/mlxdyno/mlxdyno/probe/redact"
	"github.com/mlxdyno/mlxdyno/report"
	"github.com/mlxdyno/mlxdyno/trainer"
	"github.com/mlxdyno/mlxdyno/trainer/run"
)

// burstLog is what one burst printed.
type burstLog struct {
	job    trainer.Job
	result trainer.Result
}

// recorder keeps what bursts print, for a bundle.
type recorder struct {
	diagnose.Bursts
	logs []burstLog
}

func (r *recorder) Burst(ctx context.Context, j trainer.Job) (trainer.Burst, error) {
	b, err := r.Bursts.Burst(ctx, j)
	r.logs = append(r.logs, burstLog{j, b.Result})
	return b, err
}

// entry is one file of a bundle.
type entry struct {
	name string
	text []byte
}

// logBytes is how much of the end of a log a bundle takes.
const logBytes = 1 << 20

// bundleForm returns how a bundle is packed, by the name of its file.
func bundleForm(path string) (pack func(io.Writer, []entry, time.Time) error, err error) {
	switch name := strings.ToLower(path); {
	case strings.HasSuffix(name, ".zip"):
		return packZip, nil
	case strings.HasSuffix(name, ".tar.gz"), strings.HasSuffix(name, ".tgz"):
		return packTar, nil
	}
	return nil, usagef("--bundle: %s is neither a .zip nor a .tar.gz", path)
}

// bundle packs a diagnosis for a report of a defect, without what tells who and
// where, what the environment holds, or what is trained on.
func (a *app) bundle(path string, r *diagnose.Report, logs []burstLog) error {
	pack, err := bundleForm(path)
	if err != nil {
		return err
	}
	entries, data, err := bundleEntries(r, logs)
	if err != nil {
		return fmt.Errorf("bundle: %w", err)
	}
	red := redactor()
	texts := make([]string, len(entries))
	for i, e := range entries {
		texts[i] = string(e.text)
	}
	if err := learn(red, data, texts); err != nil {
		return &userError{Code: "doctor.bundle", Message: fmt.Sprintf("bundle: read the training text, to leave it out: %v", err),
			Hint: "let the data be readable, or run the doctor without --data", Status: statusOurs}
	}
	for i := range entries {
		if entries[i].text, err = redacted(red, entries[i]); err != nil {
			return fmt.Errorf("bundle: %w", err)
		}
	}
	var b bytes.Buffer
	if err := pack(&b, entries, r.At); err != nil {
		return fmt.Errorf("bundle: %w", err)
	}
	if err := writeWhole(path, b.Bytes()); err != nil {
		return cannotWrite("bundle", path, err)
	}
	a.progress("wrote %s: report, snapshot and logs, without names, paths of homes, secrets, environment and training text; look through it before you send it", path)
	return nil
}

// redacted is an entry without what tells who and where: JSON string by string,
// so that it stays JSON.
func redacted(red *redact.Redactor, e entry) ([]byte, error) {
	switch filepath.Ext(e.name) {
	case ".json":
		return red.JSON(e.text)
	case ".jsonl":
		var out bytes.Buffer
		for line := range bytes.Lines(e.text) {
			if len(bytes.TrimSpace(line)) == 0 {
				continue
			}
			safe, err := red.JSON(line)
			if err != nil { // torn by a crash
				safe = []byte(red.Text(string(line)))
			}
			var flat bytes.Buffer
			if json.Compact(&flat, safe) != nil {
				flat.Reset()
				flat.Write(bytes.TrimSpace(safe))
			}
			out.Write(append(flat.Bytes(), '\n'))
		}
		return out.Bytes(), nil
	}
	return []byte(red.Text(string(e.text))), nil
}

const bundleReadme = `What mlxdyno doctor --bundle packs, for a report of a defect:

report.txt, report.json  the diagnosis, as printed and as data
snapshot.json            the machine; mlxdyno doctor --snapshot snapshot.json diagnoses from it anywhere
bursts/                  what the trial steps printed
last-run/                journal and log of the newest training, when there is one

Taken out: home directories, names of users and hosts, whatever looks like a secret, values of
environment variables, and every run of words that occurs in the training text.
It cannot know everything: look through it before you send it.
`

// bundleEntries gathers what goes into a bundle, as it is, and where the texts
// are that must not go out.
func bundleEntries(r *diagnose.Report, logs []burstLog) (entries []entry, data []string, err error) {
	add := func(name string, write func(io.Writer) error) {
		var b bytes.Buffer
		if err == nil {
			err = write(&b)
		}
		entries = append(entries, entry{name, b.Bytes()})
	}
	add("README.txt", func(w io.Writer) error { _, err := io.WriteString(w, bundleReadme); return err })
	add("report.txt", func(w io.Writer) error { return report.Doctor(w, *r, report.Style{Verbose: true}) })
	add("report.json", func(w io.Writer) error { return report.JSON(w, r) })
	add("snapshot.json", func(w io.Writer) error { return report.JSON(w, r.Snapshot) })
	for i, l := range logs {
		add(fmt.Sprintf("bursts/%d.log", i+1), func(w io.Writer) error {
			_, err := fmt.Fprintf(w, "# burst %d: %d shapes, ended as %s after %s\n%s\n", i+1, len(l.job.Shapes), l.result.Outcome, l.result.Elapsed.Round(time.Millisecond), l.result.LogTail)
			return err
		})
	}
	data = append(data, r.Config.Data.Path)
	home, homeErr := install.Home()
	if homeErr != nil {
		return entries, data, err
	}
	dir, findErr := run.Find(home, "last")
	if findErr != nil {
		return entries, data, err
	}
	if last, openErr := run.Open(dir); openErr == nil {
		data = append(data, last.Spec.Config.Data.Path)
	}
	for _, name := range []string{"run.json", "journal.jsonl", "worker.log"} {
		if text, readErr := tail(filepath.Join(dir, name)); readErr == nil {
			entries = append(entries, entry{"last-run/" + name, text})
		}
	}
	return entries, data, err
}

// tail reads the end of a file.
func tail(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if from := info.Size() - logBytes; from > 0 {
		if _, err := f.Seek(from, io.SeekStart); err != nil {
			return nil, err
		}
	}
	return io.ReadAll(io.LimitReader(f, logBytes))
}

// learn shows the redactor the training text, as far as it is there.
func learn(red *redact.Redactor, data, texts []string) error {
	for _, path := range data {
		if path == "" {
			continue
		}
		files := []string{path}
		if info, err := os.Stat(path); err != nil {
			continue // nothing there, nothing to leave out
		} else if info.IsDir() {
			if files, err = filepath.Glob(filepath.Join(path, "*.jsonl")); err != nil {
				return err
			}
		}
		for _, name := range files {
			f, err := os.Open(name)
			if err != nil {
				return err
			}
			err = red.Learn(f, texts...)
			f.Close()
			if err != nil {
				return err
			}
		}
	}
	return nil
}

func packZip(w io.Writer, entries []entry, at time.Time) error {
	z := zip.NewWriter(w)
	for _, e := range entries {
		f, err := z.CreateHeader(&zip.FileHeader{Name: "mlxdyno-bundle/" + e.name, Method: zip.Deflate, Modified: at})
		if err != nil {
			return err
		}
		if _, err := f.Write(e.text); err != nil {
			return err
		}
	}
	return z.Close()
}

func packTar(w io.Writer, entries []entry, at time.Time) error {
	g := gzip.NewWriter(w)
	t := tar.NewWriter(g)
	for _, e := range entries {
		if err := t.WriteHeader(&tar.Header{Name: "mlxdyno-bundle/" + e.name, Mode: 0o600, Size: int64(len(e.text)), ModTime: at}); err != nil {
			return err
		}
		if _, err := t.Write(e.text); err != nil {
			return err
		}
	}
	if err := t.Close(); err != nil {
		return err
	}
	return g.Close()
}
