// Package report shows documents that others made: a diagnosis, a study, a
// training, a set-up, a list of runs. It knows nothing of how they came about,
// computes no figure that is not in them, and starts nothing.
//
// Each document has two forms. Text is for a person: what matters comes first,
// tables fit the width of the terminal, a figure that is not known is shown as
// a dash and never as 0, and the last lines say what to do next. JSON is the
// document itself, one object with a "schema"; the schemas are in Schemas.
//
// Text that came from elsewhere (a path, a log, a worker's words) may hold
// anything: control characters are taken out before it reaches a terminal.
package report
