package stack

// Readable tells whether Read would return at once, with data or an error,
// having looked at the queues.
func (c *TCPConn) Readable() bool {
	if !c.ready(dirRead) {
		c.s.pollOnce()
	}
	return c.ready(dirRead)
}
