package exception

import (
	"time"

	"github.com/onload-go/onload/driver"
)

// Forward has what the kernel sends by the TAP passed to send, a frame at a time, and has
// the kernel see the NIC's link, until Stop. send keeps nothing of the frame, and is
// called by one goroutine. down is called with news of a link that is down: the NIC may be
// gone. It does not wait.
func (d *Device) Forward(send func(frame []byte), down func()) {
	if l, ok := d.inner.(driver.Linked); ok {
		show := func() {
			up := l.LinkUp()
			_ = SetCarrier(d.tap, up) // Linux before 5.0 cannot
			if !up {
				down()
			}
		}
		l.OnLink(show)
		show() // it may be down already
	}
	d.forwarding = make(chan struct{})
	go func() {
		defer close(d.forwarding)
		b := make([]byte, headerLen+ethernet+d.caps.MTU)
		for {
			n, err := d.tap.Read(b)
			if err != nil {
				return // Stop, or the interface was deleted
			}
			if n > headerLen {
				send(b[headerLen:n]) // one that no ring has room for is lost, as on a wire
			}
		}
	}()
}

// Stop ends Forward, and waits until send has returned.
func (d *Device) Stop() {
	if d.forwarding == nil {
		return
	}
	if l, ok := d.inner.(driver.Linked); ok {
		l.OnLink(nil)
	}
	_ = d.tap.SetReadDeadline(time.Unix(1, 0)) // it fails if the file is closed, which ends the reader too
	<-d.forwarding
}
