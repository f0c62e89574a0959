package capture

import (
	"io"

	"github.com/onload-go/onload/driver"
	"github.com/onload-go/onload/internal/record"
	"github.com/onload-go/onload/ring"
)

// New starts a capture into w, of the devices that WrapDevice is given. The caller
// closes w, after Close.
func New(w io.Writer, opt Options) (*Capture, error) {
	c, err := open(w, opt)
	if err != nil {
		return nil, err
	}
	go c.run()
	return c, nil
}

// queue is a driver.Queue that is captured.
type queue struct {
	driver.Queue
	at  driver.TapPoint
	tap *record.Tap
}

// RxBatch implements driver.Queue.
func (q *queue) RxBatch(ds []ring.Desc) int {
	n := q.Queue.RxBatch(ds)
	if n > 0 {
		q.tap.Received(&q.at, ds[:n])
		q.tap.Done()
	}
	return n
}

// TxBatch implements driver.Queue.
func (q *queue) TxBatch(ds []ring.Desc) int {
	n := q.Queue.TxBatch(ds)
	if n > 0 {
		q.tap.Sent(&q.at, ds[:n])
	}
	return n
}

// Device is a driver.Device of which every queue is captured.
type Device struct {
	driver.Device
	queues []driver.Queue
}

// WrapDevice captures all queues of d. The caller uses the result in its place.
func (c *Capture) WrapDevice(d driver.Device) (*Device, error) {
	w := &Device{Device: d}
	for i, q := range d.Queues() {
		t, err := c.tap([]string{d.Name()})
		if err != nil {
			return nil, err
		}
		w.queues = append(w.queues, &queue{q, driver.TapPoint{Interface: d.Name(), Queue: i, Arena: d.Arena()}, t})
	}
	return w, nil
}

// Queues implements driver.Device.
func (d *Device) Queues() []driver.Queue { return d.queues }
