package data

import "sync"

// Filled is a batch with its tokens, in the form of Rows.Fill.
type Filled struct {
	Batch         Batch
	Tokens, Spans []int32
}

// Stream are the batches of Epochs, filled: the next one is built while the one
// before it is used. It belongs to one goroutine.
type Stream struct {
	next     func() (built, bool)
	stop     func()
	position Position
}

type built struct {
	Filled
	after Position // of the epochs once it is used
}

// NewStream starts to build the first batch. Until Close the epochs belong to
// the stream, and the rows must stay open.
func NewStream(rows *Rows, epochs *Epochs, maxSeqLength int) *Stream {
	s := &Stream{position: epochs.Position()}
	s.next, s.stop = Ahead(func() built {
		f := Filled{Batch: epochs.Next()}
		f.Tokens, f.Spans = rows.Fill(f.Batch, maxSeqLength)
		return built{f, epochs.Position()}
	})
	return s
}

// Next returns the next batch; false after Close.
func (s *Stream) Next() (Filled, bool) {
	b, ok := s.next()
	if ok {
		s.position = b.after
	}
	return b.Filled, ok
}

// Position is that of the epochs after the batches that Next returned: what is
// built ahead does not count.
func (s *Stream) Position() Position { return s.position }

// Close ends the building. It waits for it, so that rows may be closed then.
func (s *Stream) Close() { s.stop() }

// Ahead calls build in a goroutine of its own, one call ahead of next, which
// returns what the calls did, in order. Stop ends and awaits the goroutine; after
// it next returns false. Next and stop belong to one goroutine; stop may be
// called twice.
func Ahead[T any](build func() T) (next func() (T, bool), stop func()) {
	values, quit, done := make(chan T), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			v := build()
			select {
			case values <- v:
			case <-quit:
				return
			}
		}
	}()
	next = func() (v T, ok bool) {
		select {
		case v = <-values:
			return v, true
		case <-done:
			return v, false
		}
	}
	stop = sync.OnceFunc(func() {
		close(quit)
		<-done
	})
	return next, stop
}
