package tcp

import "testing"

// Connections that the user closed and that cannot end are limited, as by
// Linux's tcp_max_orphans.
func TestOrphanLimit(t *testing.T) {
	w := dial(t, Config{}, wnd(0))
	w.h.MaxOrphans = 0
	w.write(10)
	w.want()
	w.c.Close(w.now)
	w.want("RA 1:1")
	w.state(Closed)
	if w.h.Stats.TCPAbortOnMemory != 1 || w.h.Orphans() != 0 {
		t.Errorf("%d aborted, %d orphans", w.h.Stats.TCPAbortOnMemory, w.h.Orphans())
	}
}

// Every way to end takes an orphan off the count.
func TestOrphanCount(t *testing.T) {
	for name, end := range map[string]func(w *wire){
		"TIME-WAIT": func(w *wire) { w.feed("FA", 1, 2, 0) },
		"reset":     func(w *wire) { w.in("R", 1, 0, 0) },
		"FIN-WAIT-2": func(w *wire) {
			w.feed("A", 1, 2, 0)
			w.advance(61 * sec)
		},
		"timeout": func(w *wire) { w.advance(3600 * sec) },
		"data":    func(w *wire) { w.feed("A", 1, 1, 10) },
		"failure": func(w *wire) { w.c.Fail(1) },
	} {
		w := dial(t, Config{})
		w.c.Close(w.now)
		w.c.Close(w.now)
		if w.h.Orphans() != 1 {
			t.Errorf("%s: %d orphans", name, w.h.Orphans())
		}
		end(w)
		if w.h.Orphans() != 0 {
			t.Errorf("%s: %d orphans left in %v", name, w.h.Orphans(), w.c.State())
		}
		w.out = nil
	}
	w := dial(t, Config{})
	w.c.Abort(w.now)
	w.c.Close(w.now)
	if w.h.Orphans() != 0 {
		t.Error("a dead connection is an orphan")
	}
	w.out = nil
}

// An orphan in front of a shut window goes when orphans are many, or memory is
// short, and one whose peer is silent too (attack 16).
func TestOrphanCostly(t *testing.T) {
	for name, open := range map[string]bool{"zero window": false, "silent peer": true} {
		for _, many := range []bool{false, true} {
			w := dial(t, Config{}, wnd(0))
			if open {
				w = dial(t, Config{})
			}
			w.write(10)
			w.c.Close(w.now)
			w.out = nil
			if many {
				w.h.MaxOrphans = 1
				if open {
					w.h.MaxOrphans = 0
				}
			}
			d := 10 * sec
			end := w.now + d
			for w.now < end && w.c.State() != Closed {
				w.advance(sec / 4)
				if !open && len(w.out) > 0 && w.c.State() != Closed {
					w.out = nil
					w.in("A", 1, 1, 0, wnd(0)) // the probe is answered
				}
			}
			w.out = nil
			if got := w.h.Stats.TCPAbortOnMemory == 1; got != many {
				t.Errorf("%s, many %v: aborted %v in %v", name, many, got, w.c.State())
			}
		}
	}
}
