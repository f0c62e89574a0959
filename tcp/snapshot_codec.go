package tcp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"
)

// The binary form of a Snapshot, for process to process: a magic number, a version,
// and the fields in the order of Snapshot.code, all little-endian. There is one form
// of each snapshot, and no other bytes are accepted: so a reader of one version
// never takes the bytes of another for its own.

const (
	snapshotMagic   = "olTC"
	snapshotVersion = 1
)

var (
	// ErrSnapshotVersion is the error of bytes of another version of this package.
	ErrSnapshotVersion = errors.New("tcp: a snapshot of another version")
	// ErrSnapshotBytes is the error of bytes that are no snapshot.
	ErrSnapshotBytes = errors.New("tcp: the bytes are no snapshot")
)

// MarshalBinary implements encoding.BinaryMarshaler.
func (s *Snapshot) MarshalBinary() ([]byte, error) { return s.AppendBinary(nil) }

// AppendBinary implements encoding.BinaryAppender. The error is that of a snapshot
// that no connection can have.
func (s *Snapshot) AppendBinary(b []byte) ([]byte, error) {
	if err := s.check(); err != nil {
		return b, err
	}
	b = append(b, snapshotMagic...)
	b = append(b, snapshotVersion)
	k := coder{b: b}
	t := *s // code takes pointers; writing changes nothing
	t.code(&k)
	return k.b, nil
}

// UnmarshalBinary implements encoding.BinaryUnmarshaler. It takes exactly what
// MarshalBinary makes, and keeps no part of b. With an error s is as it was.
func (s *Snapshot) UnmarshalBinary(b []byte) error {
	rest, ok := cutPrefix(b, snapshotMagic)
	if !ok || len(rest) == 0 {
		return ErrSnapshotBytes
	}
	if rest[0] != snapshotVersion {
		return fmt.Errorf("%w: %d, not %d", ErrSnapshotVersion, rest[0], snapshotVersion)
	}
	k := coder{b: rest[1:], reading: true}
	var t Snapshot
	t.code(&k)
	if k.bad || len(k.b) != 0 {
		return ErrSnapshotBytes
	}
	if err := t.check(); err != nil {
		return err
	}
	*s = t
	return nil
}

func cutPrefix(b []byte, prefix string) ([]byte, bool) {
	if len(b) < len(prefix) || string(b[:len(prefix)]) != prefix {
		return nil, false
	}
	return b[len(prefix):], true
}

// code writes s to k, or reads it from there.
func (s *Snapshot) code(k *coder) {
	k.addr(&s.Local)
	k.addr(&s.Remote)
	code8(k, &s.State)
	k.flags(&s.Orphan, &s.ReadClosed, &s.SendFIN, &s.RecvFIN, &s.SACK, &s.Timestamps)
	k.flags(&s.ECN, &s.ECT, &s.ECNEcho, &s.ECNCWR)
	for _, v := range []*uint32{&s.SndUna, &s.SndNxt, &s.SndWnd, &s.MaxSndWnd, &s.SndWL1, &s.RcvNxt, &s.RcvAcked, &s.RcvAdv, &s.TSVal, &s.TSRecent} {
		k.u32(v)
	}
	code8(k, &s.SndScale)
	code8(k, &s.RcvScale)
	code64(k, &s.TSRecentAge)
	for _, v := range []*uint16{&s.PeerMSS, &s.SendMSS, &s.RecvMSS, &s.PathMTU} {
		k.u16(v)
	}
	code64(k, &s.SoftErr)
	s.Options.code(k)
	s.Hints.code(k)
	k.bytes(&s.Send, maxSnapshotData)
	k.bytes(&s.Recv, maxSnapshotData)
}

func (o *SnapshotOptions) code(k *coder) {
	k.flags(&o.NoDelay, &o.QuickAck, &o.KeepAlive.Enable, &o.RcvFixed, &o.SndFixed, &o.KeepIdleCwnd)
	code64(k, &o.KeepAlive.Idle)
	code64(k, &o.KeepAlive.Interval)
	code64(k, &o.KeepAlive.Count)
	code64(k, &o.Linger)
	code64(k, &o.UserTimeout)
	code64(k, &o.RcvBuf)
	code64(k, &o.SndBuf)
	name := []byte(o.Congestion)
	k.bytes(&name, maxNameLen)
	o.Congestion = string(name)
	code64(k, &o.MaxPacingRate)
	k.u16(&o.MaxSeg)
	code64(k, &o.FinWait2)
	code8(k, &o.MTUProbing)
	code8(k, &o.TOS)
	code8(k, &o.TTL)
	k.u32(&o.Mark)
}

func (h *SnapshotHints) code(k *coder) {
	for _, v := range []*time.Duration{&h.RTT, &h.RTTVar, &h.MinRTT, &h.Age, &h.DataAge, &h.Stuck, &h.Timeout, &h.AckDelay} {
		code64(k, v)
	}
	for _, v := range []*uint8{&h.Retries, &h.Backoff, &h.Probes, &h.KeepProbes} {
		code8(k, v)
	}
	for _, v := range []*uint64{&h.BytesAcked, &h.BytesReceived, &h.BytesRetrans} {
		code64(k, v)
	}
	for _, v := range []*uint32{&h.Cwnd, &h.Ssthresh, &h.SegsIn, &h.SegsOut, &h.SegsRetrans} {
		k.u32(v)
	}
	k.flags(&h.Passive, &h.Probe)
}

// coder writes fields behind b or, if reading, takes them off the front of b.
type coder struct {
	b       []byte
	reading bool
	bad     bool // b ended too early, or has what no writer writes
}

// take takes n bytes off the front; nil: there are fewer.
func (k *coder) take(n int) []byte {
	if k.bad || len(k.b) < n {
		k.bad = true
		return nil
	}
	b := k.b[:n]
	k.b = k.b[n:]
	return b
}

func code8[T ~uint8 | ~int8](k *coder, v *T) {
	if !k.reading {
		k.b = append(k.b, byte(*v))
	} else if b := k.take(1); b != nil {
		*v = T(b[0])
	}
}

func (k *coder) u16(v *uint16) {
	if !k.reading {
		k.b = binary.LittleEndian.AppendUint16(k.b, *v)
	} else if b := k.take(2); b != nil {
		*v = binary.LittleEndian.Uint16(b)
	}
}

func (k *coder) u32(v *uint32) {
	if !k.reading {
		k.b = binary.LittleEndian.AppendUint32(k.b, *v)
	} else if b := k.take(4); b != nil {
		*v = binary.LittleEndian.Uint32(b)
	}
}

func code64[T ~int | ~int64 | ~uint64 | ~uintptr](k *coder, v *T) {
	if !k.reading {
		k.b = binary.LittleEndian.AppendUint64(k.b, uint64(*v))
	} else if b := k.take(8); b != nil {
		*v = T(binary.LittleEndian.Uint64(b))
	}
}

// flags codes up to eight of them as one byte.
func (k *coder) flags(vs ...*bool) {
	var n uint8
	for i, v := range vs {
		if *v {
			n |= 1 << i
		}
	}
	code8(k, &n)
	if n>>len(vs) != 0 {
		k.bad = true
	}
	if k.reading {
		for i, v := range vs {
			*v = n>>i&1 != 0
		}
	}
}

// bytes codes at most so many bytes behind their number. What it reads is a copy.
func (k *coder) bytes(v *[]byte, most int) {
	n := uint32(len(*v))
	k.u32(&n)
	if !k.reading {
		k.b = append(k.b, *v...)
		return
	}
	if int64(n) > int64(most) {
		k.bad = true
		return
	}
	if b := k.take(int(n)); b != nil {
		*v = append(make([]byte, 0, n), b...)
	}
}

// addr codes an address with its zone and port, in netip's form.
func (k *coder) addr(v *netip.AddrPort) {
	var b []byte
	if !k.reading {
		b, _ = v.MarshalBinary() // never fails
	}
	k.bytes(&b, 16+2+maxZoneLen)
	if k.reading && !k.bad {
		k.bad = v.UnmarshalBinary(b) != nil
	}
}

// maxZoneLen bounds the name of an interface (Linux's IFNAMSIZ).
const maxZoneLen = 16
