package flowtable

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Flow is a connection of a table.
type Flow struct {
	Local, Remote netip.AddrPort
	Link          uint32 // index of the interface of a link-local address; else 0
	Seq           uint32 // sequence number of an octet that the peer has acknowledged
}

// ErrForeign says that a file is no table of this version.
var ErrForeign = errors.New("no table of connections of this version")

const readAtOnce = 1 << 10 // entries

// Read calls f for each connection of a table, most at most, until f returns false. The
// process whose table it is has ended, or its owner is not believed: it may be any file.
// So it is read, not mapped, since a page of another's memory may fault.
func Read(fd, most int, f func(Flow) bool) error {
	b := make([]byte, readAtOnce*EntrySize)
	if err := readAt(fd, b[:EntrySize], 0); err != nil {
		return err
	}
	if binary.NativeEndian.Uint64(b) != magic {
		return ErrForeign
	}
	used := min(int(binary.NativeEndian.Uint32(b[8:])), Most)
	for at := 1; at <= used; at += readAtOnce {
		part := b[:min(readAtOnce, used+1-at)*EntrySize]
		if err := readAt(fd, part, int64(at)*EntrySize); err != nil {
			return err
		}
		for ; len(part) > 0; part = part[EntrySize:] {
			if binary.NativeEndian.Uint32(part) != live {
				continue
			}
			if most--; most < 0 || !f(parse(part)) {
				return nil
			}
		}
	}
	return nil
}

// parse reads an entry. See type entry.
func parse(b []byte) Flow {
	u16, u32 := binary.NativeEndian.Uint16, binary.NativeEndian.Uint32
	return Flow{
		Local:  netip.AddrPortFrom(netip.AddrFrom16([16]byte(b[32:])).Unmap(), u16(b[16:])),
		Remote: netip.AddrPortFrom(netip.AddrFrom16([16]byte(b[48:])).Unmap(), u16(b[18:])),
		Link:   u32(b[8:]), Seq: u32(b[12:]),
	}
}

func readAt(fd int, b []byte, at int64) error {
	for {
		n, err := unix.Pread(fd, b, at)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return fmt.Errorf("the table of connections: %w", err)
		case n != len(b):
			return ErrForeign
		default:
			return nil
		}
	}
}
