package tcp

import "testing"

// Section 3.10.5: in CLOSING and LAST-ACK an abort sends no reset, which could take
// unread data from the peer. The peer must be told of data that was not sent (as
// Linux).
func TestRFC9293AbortAfterFIN(t *testing.T) {
	for _, tt := range []struct {
		wnd  uint16
		want []string
	}{{65535, nil}, {5, []string{"RA 6:2"}}} {
		w := dial(t, Config{NoDelay: true}, wnd(tt.wnd))
		w.feed("FA", 1, 1, 0, wnd(tt.wnd))
		w.write(10)
		w.c.CloseWrite(w.now)
		w.advance(0)
		w.state(LastAck)
		if tt.wnd == 5 {
			w.advance(sec)
		}
		w.out = nil
		w.c.SetLinger(0)
		w.c.Close(w.now)
		w.want(tt.want...)
		w.state(Closed)

		w = dial(t, Config{}, wnd(tt.wnd))
		if tt.wnd == 5 {
			w.write(10)
		}
		w.c.CloseWrite(w.now)
		w.feed("FA", 1, 1, 0, wnd(tt.wnd))
		w.state(Closing)
		w.advance(sec)
		w.out = nil
		w.c.SetLinger(0)
		w.c.Close(w.now)
		w.want(tt.want...)
	}
}
