package stack

import (
	"runtime"
	"testing"
)

// An acknowledgement waits for more segments as long as the stack looks for
// them: it is sent when none come, and when nobody looks any more.
func TestGather(t *testing.T) {
	a, b := newPair(t, pairOptions{profile: Throughput})
	c, d := connect(t, a, b, addrB)
	done := make(chan struct{})
	go func() {
		defer close(done)
		p := make([]byte, 1<<20)
		for err := error(nil); err == nil; {
			_, err = c.Write(p)
		}
	}()
	t.Cleanup(func() {
		_ = c.Close()
		<-done
	})
	p := make([]byte, 16<<10)
	// gather ends with b's lock held and an acknowledgement of d waiting.
	gather := func() {
		t.Helper()
		for range 10000 {
			if _, err := d.Read(p); err != nil {
				t.Fatal(err)
			}
			b.begin()
			for i := 0; i < 1000 && b.poll() < 3; i++ {
				runtime.Gosched()
			}
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
