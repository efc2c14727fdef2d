package main

import (
	"io"
	"os"

	"github.com/mlxdyno/mlxdyno/report"
)

// print writes a document: as JSON when that was asked for, else as text does.
func (a *app) print(document any, text func() error) error {
	if a.json {
		return report.JSON(a.stdout, document)
	}
	return text()
}

// show prints a part of a longer command; its errors are those of writing.
func (a *app) show(text func() error) {
	if !a.json {
		_ = text()
	}
}

func (a *app) style() report.Style { return a.styleFor(a.stdout) }

func (a *app) styleFor(w io.Writer) report.Style {
	return report.StyleFor(w, a.color, a.verbose, os.Getenv)
}
