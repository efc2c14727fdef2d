// Package command watches trainers that are not ours: it reads what they
// print, from a log or while they run, and does not let them overwrite their
// own results.
//
//	argv ─ Guard ─► argv ─ Run ──┐
//	                             ├─► Lines ─► Adapter ─► Reading ─► Observations ─► trainer.Summary
//	log file ─── FollowLog ──────┘
//
// An Adapter turns lines into Readings: your_ai, mlx-lm, JSON lines, lines that
// name a step and a loss, and what a user describes in a file (ParseAdapter). A
// Detector picks one by what it recognises. A Reading says what was printed,
// with its unit, and which of it is doubtful; nothing is filled in. Observations
// keep a bounded number of points, however long the log is.
//
// A patient cannot be trusted with anything: its lines may be of any length and
// of any bytes, it may not heed a signal, and it may leave processes behind. Run
// comes back when nothing of it is left.
package command
