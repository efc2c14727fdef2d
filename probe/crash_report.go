package probe

import (
	"encoding/json"
	"errors"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// decodeCrashReport reads one of macOS's reports: a line of JSON that says what
// it is, then JSON with the matter itself; or, of panics on older systems, plain
// text.
func decodeCrashReport(text string) (Crash, error) {
	head, body, _ := strings.Cut(text, "\n")
	var h struct {
		BugType   string `json:"bug_type"`
		Timestamp string `json:"timestamp"`
	}
	if err := json.Unmarshal([]byte(head), &h); err != nil {
		if i := strings.Index(text, "panic(cpu "); i >= 0 {
			return decodePanic(text[i:]), nil
		}
		return Crash{}, errors.New("is no crash report")
	}
	at := reportTime(h.Timestamp)
	switch h.BugType {
	case "210": // panic
		var p struct {
			PanicString string `json:"panicString"`
			Date        string `json:"date"`
		}
		if err := json.Unmarshal([]byte(body), &p); err != nil || p.PanicString == "" {
			return Crash{}, errors.New("is a panic without its words")
		}
		c := decodePanic(p.PanicString)
		if c.At = reportTime(p.Date); c.At.IsZero() {
			c.At = at
		}
		return c, nil
	case "298": // jetsam
		c, err := decodeJetsam(body)
		if c.At.IsZero() {
			c.At = at
		}
		return c, err
	}
	return Crash{}, errors.New("is neither a panic nor a jetsam event")
}

var (
	panicSource = regexp.MustCompile(`@([A-Za-z0-9_.+\-]+\.(?:cpp|c|cc|m|mm|h))(?::\d+)?`)
	panicTask   = regexp.MustCompile(`Panicked task 0x[0-9a-fA-F]+: (\d+) pages, \d+ threads: pid (\d+): ([^\n]+)`)
	panicPage   = regexp.MustCompile(`(?i)pagesize:?\s*(\d+)`)
)

// decodePanic reads the words of the kernel.
func decodePanic(text string) Crash {
	c := Crash{Kind: CrashPanic, Text: oneLine(text)}
	if m := panicSource.FindStringSubmatch(text); m != nil {
		c.Component = m[1]
	}
	c.Bytes = Unknown[int64]("the panic names no task", "panic")
	if m := panicTask.FindStringSubmatch(text); m != nil {
		c.Process = strings.TrimSpace(m[3])
		c.PID = pid(m[2])
		c.Bytes = Unknown[int64]("the panic does not say how large pages are", "panic")
		if page := panicPage.FindStringSubmatch(text); page != nil {
			c.Bytes = pagesBytes(m[1], page[1], "panic")
		}
	}
	return c
}

func pid(text string) int32 {
	n, err := strconv.ParseInt(text, 10, 32)
	if err != nil || n < 0 {
		return 0
	}
	return int32(n)
}

func pagesBytes(pages, size, source string) Value[int64] {
	n, err1 := strconv.ParseInt(pages, 10, 64)
	page, err2 := strconv.ParseInt(size, 10, 64)
	if err1 != nil || err2 != nil || n < 0 || page <= 0 || n > math.MaxInt64/page {
		return Unknown[int64]("is no number of pages", source)
	}
	return Known(n*page, source)
}

// decodeJetsam reads which processes were killed, or would have been. Of several,
// the largest counts.
func decodeJetsam(body string) (Crash, error) {
	var j struct {
		Date         string `json:"date"`
		Largest      string `json:"largestProcess"`
		MemoryStatus struct {
			PageSize int64 `json:"pageSize"`
		} `json:"memoryStatus"`
		Processes []struct {
			Name   string `json:"name"`
			PID    int64  `json:"pid"`
			Pages  int64  `json:"rpages"`
			Reason string `json:"reason"`
		} `json:"processes"`
	}
	if err := json.Unmarshal([]byte(body), &j); err != nil {
		return Crash{}, errors.New("is a jetsam event whose body cannot be read")
	}
	c := Crash{Kind: CrashJetsam, At: reportTime(j.Date), Largest: j.Largest, Text: "memory ran out; no process is marked as killed",
		Bytes: Unknown[int64]("no process is marked as killed", "jetsam event")}
	most := int64(-1)
	for _, p := range j.Processes {
		if p.Reason == "" || p.Pages <= most || p.PID < 0 || p.PID > math.MaxInt32 {
			continue
		}
		most = p.Pages
		c.Process, c.PID = p.Name, int32(p.PID)
		c.Text = oneLine("killed for " + p.Reason)
		c.Bytes = pagesBytes(strconv.FormatInt(p.Pages, 10), strconv.FormatInt(j.MemoryStatus.PageSize, 10), "jetsam event")
	}
	return c, nil
}

// reportTime reads the times of reports; zero for another form.
func reportTime(text string) time.Time {
	for _, form := range []string{"2006-01-02 15:04:05.00 -0700", "2006-01-02 15:04:05 -0700", "2006-01-02 15:04:05.0000 -0700"} {
		if t, err := time.Parse(form, text); err == nil && t.Year() > 0 && t.Year() < 10000 {
			return t.UTC()
		}
	}
	return time.Time{}
}

const lineLength = 200

// oneLine is the first line of a text, bounded.
func oneLine(text string) string {
	line := strings.ToValidUTF8(firstLineOf(strings.TrimSpace(text)), "?")
	if r := []rune(line); len(r) > lineLength {
		line = string(r[:lineLength]) + "…"
	}
	return line
}
