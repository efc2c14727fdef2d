// Package diagnose orders the bursts that a diagnosis needs, runs the checks
// over what was read and measured, and says what to do next.
package diagnose
