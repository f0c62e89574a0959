package tcp

import "testing"

// TestOutputOwner is the rule at Output's docstring: data waits for the owner's
// Output, a FIN and a timer do not, and another Output adds nothing.
func TestOutputOwner(t *testing.T) {
	w := newWire(t, Config{NoTimestamps: true})
	w.c.Connect(w.now)
	w.synAck()
	w.c.Output(w.now)
	w.out = nil
	quiet := func(after string) {
		t.Helper()
		if len(w.out) > 0 {
			t.Errorf("%s sent %v", after, w.out)
		}
		w.out = nil
	}
	w.c.Write(make([]byte, 10))
	quiet("Write alone")
	w.c.Output(w.now)
	w.want("PA 1:1 len 10")
	w.c.Output(w.now)
	quiet("a second Output")
	w.c.Expire(w.c.Deadline())
	if len(w.out) == 0 {
		t.Error("Expire sent nothing")
	}
	w.out = nil
	w.c.CloseWrite(w.now)
	w.want("FA 11:1")
	w.c.Output(w.now)
	quiet("Output after CloseWrite")
	w.state(FinWait1)
}
