package tcp

// SetTSO sets the size of the largest IP packet that the device of the path segments,
// in bytes; 0: it segments none. Until the first call it is Host.TSO. The owner calls
// it where the path has moved to another device. Packets that Transmit was given
// before are the owner's: it cuts those that the new device cannot.
func (c *Conn) SetTSO(size int) {
	n := uint16(min(max(size, 0), 0xffff))
	if n == c.tso {
		return
	}
	c.tso = n
	c.updateMSS() // frames are filled, and packets counted, by it
}
