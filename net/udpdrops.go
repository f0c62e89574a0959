package onload

import "github.com/onload-go/onload/internal/engine"

// UDPDrops counts the received datagrams that a socket has lost, by the reason.
type UDPDrops struct {
	Buffer uint64 // its receive buffer was full (SO_RCVBUF)
	Memory uint64 // packet memory was short
	Kernel uint64 // lost by the kernel's socket, or the kernel's half of this one
}

// Drops returns the received datagrams that the socket has lost since it was opened.
// Their sum is what SO_RXQ_OVFL gives with each datagram. That of the kernel's
// socket is SK_MEMINFO_DROPS of SO_MEMINFO.
func (c *UDPConn) Drops() UDPDrops { return c.via().drops() }

func (c *stackUDP) drops() UDPDrops {
	d := c.s.Drops()
	return UDPDrops{Buffer: d.Buffer, Memory: d.Memory}
}

func (c *boundUDP) drops() UDPDrops {
	d := c.stackUDP.drops()
	if c.k != nil {
		d.Kernel = engine.KernelDrops(c.k)
	}
	return d
}

func (c *kernelUDP) drops() UDPDrops { return UDPDrops{Kernel: engine.KernelDrops(c.UDPConn)} }

func (noUDP) drops() UDPDrops { return UDPDrops{} }
