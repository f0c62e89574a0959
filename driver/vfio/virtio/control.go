package virtio

import (
	"fmt"
	"runtime"
	"time"

	"github.com/onload-go/onload/driver/vfio"
)

// control is the virtqueue of commands (5.1.6.5).
type control struct {
	vq   virtqueue
	mem  vfio.Regs // a command, and the device's answer behind it
	iova uint64
}

const (
	controlRing = 16
	commandMost = 1024 // bytes
	commandOK   = 0

	classMQ    = 4 // 5.1.6.5.5
	setPairs   = 0
	configRSS  = 1
	controlFor = 10 * time.Second // how long a device may take
)

// command sends one command, and waits for its answer.
func (c *control) command(class, command byte, data []byte) error {
	n := 2 + len(data)
	c.mem[0], c.mem[1] = class, command
	copy(c.mem[2:], data)
	c.mem[n] = ^byte(commandOK)
	id := c.vq.add([]buffer{{addr: c.iova, n: uint32(n)}, {addr: c.iova + uint64(n), n: 1, write: true}})
	c.vq.publish()
	c.vq.notify()
	for start := time.Now(); ; runtime.Gosched() {
		got, _, ok, err := c.vq.peek(0)
		switch {
		case err == nil && ok && got != id:
			err = errBadUsed
		case err == nil && !ok && time.Since(start) > controlFor:
			err = fmt.Errorf("no answer for %v", controlFor)
		}
		if err != nil {
			return fmt.Errorf("virtio: command %d of class %d: %w", command, class, err)
		}
		if ok {
			break
		}
	}
	c.vq.take(id)
	c.vq.settle()
	if ack := c.mem[n]; ack != commandOK {
		return fmt.Errorf("virtio: command %d of class %d: the device says %d", command, class, ack)
	}
	return nil
}

// Hash types (5.1.6.4.3.1): addresses, and the ports of TCP and UDP, of both families.
const hashTypes = 1<<6 - 1

// rssKeyLen is the length of the key that we give: enough for IPv6 with ports.
const rssKeyLen = 40

// rssConfig spreads flows over the first pairs queues (5.1.6.5.7.1), by a key and a
// table of a power of two of entries.
func rssConfig(key []byte, table []uint32, types uint32, pairs int) []byte {
	b := le.AppendUint32(nil, types)
	b = le.AppendUint16(b, uint16(len(table)-1))
	b = le.AppendUint16(b, 0) // packets without a hash
	for _, q := range table {
		b = le.AppendUint16(b, uint16(q)) // the queue's number, halved: 2q is its virtqueue
	}
	b = le.AppendUint16(b, uint16(pairs))
	return append(append(b, byte(len(key))), key...)
}

// spread has the device use all pairs of queues (5.1.6.5.5, 5.1.6.5.7). Where it has
// RSS the Caps say how flows are spread; else a flow comes by the queue by which it
// was last sent.
func (d *Device) spread(pairs int) error {
	if pairs == 1 {
		return nil
	}
	if d.features&featRSS == 0 {
		return d.control.command(classMQ, setPairs, le.AppendUint16(nil, uint16(pairs)))
	}
	entries := 1
	for most := min(int(d.regs.device.Read16(netRSSTable)), 128); 2*entries <= most; {
		entries *= 2
	}
	table := make([]uint32, entries)
	for i := range table {
		table[i] = uint32(i % pairs)
	}
	key := rssKey[:min(rssKeyLen, int(d.regs.device.Read8(netRSSKey)))]
	types := d.regs.device.Read32(netHashTypes) & hashTypes
	if err := d.control.command(classMQ, configRSS, rssConfig(key, table, types, pairs)); err != nil {
		return err
	}
	d.caps.RSSKey, d.caps.RSSTable = key, table
	return nil
}

// rssKey is the key that Microsoft's RSS verification suite uses.
var rssKey = []byte{
	0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f, 0xb0,
	0xd0, 0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30, 0xf2, 0x0c,
	0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa,
}
