package probe

// Severity orders findings, worst last.
type Severity string

const (
	Pass    Severity = "pass"
	Info    Severity = "info"
	Warn    Severity = "warn"
	Fail    Severity = "fail"    // a required check failed
	Skipped Severity = "skipped" // a prerequisite failed
	Unclear Severity = "unknown" // what it needs could not be read
)

// Confidence says how a finding is known.
type Confidence string

const (
	Proven   Confidence = "proven"   // removing the cause removed the symptom, in an A/B burst
	Measured Confidence = "measured" // read or measured directly
	Likely   Confidence = "likely"   // fits what was seen, other explanations remain
)

// Finding is one conclusion, with what it rests on and what to do about it.
type Finding struct {
	Code       string     `json:"code"` // stable, dotted: "memory.limit-below-weights"
	Severity   Severity   `json:"severity"`
	Title      string     `json:"title"` // one line: what
	Why        string     `json:"why,omitempty"`
	Fix        []Fix      `json:"fix,omitempty"`
	Evidence   []Evidence `json:"evidence,omitempty"`
	Confidence Confidence `json:"confidence,omitempty"`
	Proof      *Proof     `json:"proof,omitempty"`      // nil when nothing was tried
	DependsOn  []string   `json:"depends_on,omitempty"` // codes whose failure explains this one away
}

// Proof is what became of a symptom when its cause was taken away in a burst.
type Proof struct {
	Verdict ProofVerdict `json:"verdict"`
	Changed string       `json:"changed"`        // what took the cause away
	Symptom string       `json:"symptom"`        // what was looked at
	Unit    string       `json:"unit,omitempty"` // bytes, s, share, or empty for a count
	Before  float64      `json:"before"`         // with the cause
	After   float64      `json:"after"`          // without; of no meaning when the verdict is open
	Bursts  int          `json:"bursts"`         // that were run for it
	Seconds float64      `json:"seconds"`        // that they took
	Text    string       `json:"text"`           // in a sentence
}

// ProofVerdict is what a proof came to.
type ProofVerdict string

const (
	ProofHolds   ProofVerdict = "proven"  // the symptom went with the cause
	ProofRefuted ProofVerdict = "refuted" // it stayed: the cause is another one, or not the only one
	ProofOpen    ProofVerdict = "open"    // the bursts could not tell
)

// Fix is something to do.
type Fix struct {
	Text      string `json:"text"`
	Command   string `json:"command,omitempty"`
	NeedsSudo bool   `json:"needs_sudo,omitempty"`
	Undo      string `json:"undo,omitempty"`
	Risk      string `json:"risk,omitempty"`
}

// Evidence is one observation behind a finding.
type Evidence struct {
	Name     string `json:"name"`
	Observed string `json:"observed"`
	Expected string `json:"expected,omitempty"`
	Unit     string `json:"unit,omitempty"`
	Source   string `json:"source"`
}
