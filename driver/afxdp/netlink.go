package afxdp

import (
	"encoding/binary"
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"
)

var native = binary.NativeEndian

// nlaTypeMask cuts off the flags of an attribute type.
const nlaTypeMask = 0x3fff

// nlQuery sends one netlink request and returns the bodies of the answers.
func nlQuery(proto int, typ, flags uint16, body []byte) ([][]byte, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, proto)
	if err != nil {
		return nil, fmt.Errorf("socket(AF_NETLINK): %w", err)
	}
	defer unix.Close(fd)
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 2}); err != nil {
		return nil, err
	}
	if err := unix.Sendto(fd, nlRequest(typ, flags, body), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return nil, fmt.Errorf("netlink request: %w", err)
	}
	var out [][]byte
	buf := make([]byte, 64<<10)
	for {
		n, _, err := unix.Recvfrom(fd, buf, 0)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("netlink answer: %w", err)
		}
		msgs, err := syscall.ParseNetlinkMessage(buf[:n])
		if err != nil {
			return nil, fmt.Errorf("netlink answer: %w", err)
		}
		for _, m := range msgs {
			switch m.Header.Type {
			case unix.NLMSG_DONE:
				return out, nil
			case unix.NLMSG_ERROR:
				if len(m.Data) >= 4 {
					if e := int32(native.Uint32(m.Data)); e != 0 {
						return nil, unix.Errno(-e)
					}
				}
				return out, nil
			}
			out = append(out, append([]byte(nil), m.Data...))
			// Of a dump netdev's messages do not say that more come.
			if (m.Header.Flags|flags)&(unix.NLM_F_MULTI|unix.NLM_F_DUMP) == 0 {
				return out, nil
			}
		}
	}
}

// nlRequest is a request with its header.
func nlRequest(typ, flags uint16, body []byte) []byte {
	req := make([]byte, unix.NLMSG_HDRLEN, unix.NLMSG_HDRLEN+len(body))
	native.PutUint32(req[0:], uint32(unix.NLMSG_HDRLEN+len(body)))
	native.PutUint16(req[4:], typ)
	native.PutUint16(req[6:], unix.NLM_F_REQUEST|flags)
	native.PutUint32(req[8:], 1)
	return append(req, body...)
}

// nlAttr appends an attribute to b, padded.
func nlAttr(b []byte, typ uint16, val []byte) []byte {
	b = native.AppendUint16(b, uint16(4+len(val)))
	b = native.AppendUint16(b, typ)
	b = append(b, val...)
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	return b
}

// nlAttrs calls f for each attribute in b.
func nlAttrs(b []byte, f func(typ uint16, val []byte)) {
	for len(b) >= 4 {
		n := int(native.Uint16(b))
		if n < 4 || n > len(b) {
			return
		}
		f(native.Uint16(b[2:])&nlaTypeMask, b[4:n])
		b = b[min((n+3)&^3, len(b)):]
	}
}

func attrUint32(b []byte) uint32 {
	if len(b) < 4 {
		return 0
	}
	return native.Uint32(b)
}

// attrUint is a number of 4 or 8 bytes, as the kernel likes.
func attrUint(b []byte) uint64 {
	if len(b) >= 8 {
		return native.Uint64(b)
	}
	return uint64(attrUint32(b))
}

func attrString(b []byte) string {
	for i, c := range b {
		if c == 0 {
			return string(b[:i])
		}
	}
	return string(b)
}
