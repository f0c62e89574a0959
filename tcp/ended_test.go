package tcp

import "testing"

// RFC 9293 section 3.10.7.1: a connection that has ended does not keep what
// comes behind the segment that ended it, also before its owner forgets it.
func TestRFC9293SegmentAfterEnd(t *testing.T) {
	for _, tt := range []struct {
		name string
		end  func(w *wire)
		seq  uint32 // of the peer's next byte
		ack  uint32 // what it acknowledges
		data string // answer to data
		fin  string // answer to a FIN
	}{
		{"last ACK", func(w *wire) {
			w.feed("FA", 1, 1, 0)
			w.c.Close(w.now)
			w.out = nil
			w.feed("A", 2, 2, 0)
		}, 2, 2, "R 2:0", "R 2:0"},
		{"reset", func(w *wire) { w.feed("R", 1, 0, 0) }, 1, 1, "R 1:0", "R 1:0"},
		{"aborted", func(w *wire) {
			w.c.Abort(w.now)
			w.out = nil
		}, 1, 1, "R 1:0", "R 1:0"},
		{"data for nobody", func(w *wire) {
			w.c.Close(w.now)
			w.out = nil
			w.feed("A", 1, 1, 10)
			w.want("R 1:0")
		}, 11, 1, "R 1:0", "R 1:0"},
		{"TIME-WAIT", func(w *wire) {
			w.c.Close(w.now)
			w.out = nil
			w.feed("FA", 1, 2, 0)
			w.want("A 2:2")
		}, 1, 2, "A 2:2", "A 2:2"},
		{"failed", func(w *wire) { w.c.Fail(1) }, 1, 1, "R 1:0", "R 1:0"},
	} {
		for _, k := range []struct {
			flags string
			n     int
			want  string
		}{{"A", 5, tt.data}, {"FA", 0, tt.fin}} {
			t.Run(tt.name+" "+k.flags, func(t *testing.T) {
				w := dial(t, Config{})
				tt.end(w)
				w.in(k.flags, tt.seq, tt.ack, k.n)
				w.want(k.want)
				w.in("R", tt.seq, 0, 0)
				w.want()
			})
		}
	}
}
