package driver

// The parts of a transport header that a device knows. It completes the checksum at
// Desc.CsumOff; a device that segments also advances sequence numbers and clears
// flags. Offsets and lengths are in bytes (RFC 9293 section 3.1, RFC 768).
const (
	TCPSeq       = 4
	TCPFlags     = 13
	TCPChecksum  = 16 // also the value of Desc.CsumOff
	TCPHeaderLen = 20 // without options

	UDPChecksum  = 6 // also the value of Desc.CsumOff
	UDPHeaderLen = 8
)
