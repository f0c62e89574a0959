package stack

import (
	"io"
	"testing"
)

// An acknowledgement waits for more segments as long as the stack looks for
// them: it is sent when none come, and when nobody looks any more.
func TestGather(t *testing.T) {
	a, b := newPair(t, pairOptions{profile: Throughput})
	c, d := connect(t, a, b, addrB)
	c.SetNoDelay(false)
	unread := 0
	send := func(n int) {
		if _, err := c.Write(make([]byte, n)); err != nil {
			t.Fatal(err)
		}
		unread = n
	}
	// gather ends with b's lock held and an acknowledgement of d waiting: the end of
	// what c sends waits in turn for that (Nagle), so that no segment is pushed. The
	// reactors may be faster.
	gather := func() {
		t.Helper()
		for range 1000 {
			if _, err := io.ReadFull(d, make([]byte, unread)); err != nil {
				t.Fatal(err)
			}
			send(2*c.info().SendMSS + 100)
			b.begin()
			b.poll()
			for c := b.nextDirty(); c != nil; c = b.nextDirty() {
				b.noteOutput(c, c.tc.Output(b.now))
			}
			if ok, _, _ := d.tc.Gathering(); ok {
				return
			}
			b.end()
		}
		t.Fatal("no acknowledgement waits for more segments")
	}
	send(100_000) // the first segments are acknowledged at once
	for _, last := range []bool{false, true} {
		gather()
		if !d.gathers || b.turn.gatherUntil == never {
			t.Fatal("nobody looks after it")
		}
		if last {
			b.armLocked()
		} else {
			_, since, came := d.tc.Gathering()
			until := min(since+gatherMost, came+gatherIdle)
			b.now = until - 1
			if b.endGather(false); !d.gathers || d.dirty || b.turn.gatherUntil != until {
				t.Error("does not wait as long as it may")
			}
			b.now = until
			b.endGather(false)
		}
		if ok, _, _ := d.tc.Gathering(); ok || d.gathers || !d.dirty || b.turn.gatherUntil != never {
			t.Error("waits too long")
		}
		b.end()
	}
}
