// Package trainer is the contract on which everything that trains, tunes or
// diagnoses meets: what is asked for (Config, Knobs, Job), what a worker says
// while it runs (Event), and what became of it (Result, Outcome).
//
// It holds data and the rules that belong to the data: how a knob is parsed,
// which configurations are the same (Config.Key), how a run's events add up to
// figures (Summarize), how a configuration is kept on disk (File). It starts no
// process, opens no other file and knows no engine.
//
// Two rules run through it. A quantity that was not measured is absent (Opt),
// never zero. And what befell the subject of a run is data (Outcome), while an
// error always means that this program failed.
package trainer
