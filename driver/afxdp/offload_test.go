package afxdp

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"runtime"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/internal/allocs"
	"github.com/onload-go/onload/internal/lab"
	"github.com/onload-go/onload/ip"
	"github.com/onload-go/onload/ring"
)

// The device segments where nothing would reorder or drop for it, and says so
// where it does not.
func TestOffloads(t *testing.T) {
	queue := func(q netlink.Qdisc) func(*lab.NS) error {
		return func(ns *lab.NS) error {
			l, err := ns.Netlink().LinkByName(ns.If)
			if err != nil {
				return err
			}
			q.Attrs().LinkIndex, q.Attrs().Parent = l.Attrs().Index, netlink.HANDLE_ROOT
			return ns.Netlink().QdiscReplace(q)
		}
	}
	gsoMax := func(n int) func(*lab.NS) error {
		return func(ns *lab.NS) error {
			l, err := ns.Netlink().LinkByName(ns.If)
			if err != nil {
				return err
			}
			return ns.Netlink().LinkSetGSOMaxSize(l, n)
		}
	}
	for name, tt := range map[string]struct {
		link   lab.Options
		config Config
		setup  func(*lab.NS) error
		tso    int
		says   string
	}{
		"auto":   {tso: 65535 - maxL2},
		"jumbo":  {link: lab.Options{MTU: 9000}, tso: 65535 - maxL2},
		"native": {config: Config{Mode: ModeNative}, tso: 65535 - maxL2},
		"off":    {config: Config{Offloads: OffloadsOff}},
		"queues": {link: lab.Options{Queues: 4}, says: "the link has 4 transmit queues, offload works with one"},
		"qdisc":  {setup: queue(&netlink.GenericQdisc{QdiscType: "pfifo"}), tso: 65535 - maxL2},
		"less":   {setup: gsoMax(30000), tso: 29999 - maxL2},
		"little": {setup: gsoMax(3000), says: "packets of at most 3000 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			p := lab.NewPair(t, tt.link)
			if tt.setup != nil {
				must(t, tt.setup(p.A))
			}
			core, logs := observer.New(zap.InfoLevel)
			tt.config.Log = zap.New(core)
			d := openAt(t, p.A, tt.config)
			if got := d.Caps().TSO; got != tt.tso {
				t.Errorf("TSO %d, want %d", got, tt.tso)
			}
			said := ""
			for _, e := range logs.FilterMessageSnippet("segmentation").All() {
				said += fmt.Sprint(e.ContextMap())
			}
			if (said != "") != (tt.says != "") || !strings.Contains(said, tt.says) {
				t.Errorf("log %q, want %q", said, tt.says)
			}
		})
	}
}

// segmentOf is a TCP segment from src to dst, with timestamps as most have.
// With partial its checksum is only the pseudo-header's sum.
func segmentOf(src, dst host, seq uint32, partial bool, data []byte, tags ...uint16) []byte {
	b := make([]byte, 32, 32+len(data))
	binary.BigEndian.PutUint16(b, 1000)
	binary.BigEndian.PutUint16(b[2:], 80)
	binary.BigEndian.PutUint32(b[4:], seq)
	b[12], b[13] = 8<<4, ackFlag
	copy(b[20:], []byte{1, 1, 8, 10})
	b = append(b, data...)
	ph := pseudo(src.addr, dst.addr, tcp, len(b))
	if partial {
		binary.BigEndian.PutUint16(b[16:], ^sum(ph))
	} else {
		binary.BigEndian.PutUint16(b[16:], sum(ph, b))
	}
	return ethOf(src.mac, dst.mac, ipOf(src.addr, dst.addr, tcp, 1, 0x4000, 0, b), tags...)
}

// gso marks pkt as one to be segmented, with further flags.
func gso(ds []ring.Desc, l4, size int, flags ring.DescFlags) {
	ds[0].Flags |= ring.FlagGSO | ring.FlagCsumPartial | flags
	ds[0].CsumStart, ds[0].CsumOff, ds[0].SegSize = uint16(l4), 16, uint16(size)
	ds[0].HdrLen = uint16(l4) + 32
}

// Large packets arrive whole at a generic peer, cut to the MTU at a native
// one, and in order with what is sent frame by frame around them. Checksums
// are partial or right.
func TestSegmentation(t *testing.T) {
	for _, mode := range modes {
		for _, csum := range []string{"partial", "full"} {
			for _, family := range []string{"v4", "v6", "vlan"} {
				t.Run(fmt.Sprintf("%v/%s/%s", mode, csum, family), func(t *testing.T) {
					p := lab.NewPair(t, lab.Options{Neighbors: true, NoTxCsum: csum == "full"})
					a, b := openAt(t, p.A, Config{}), openAt(t, p.B, Config{Mode: mode})
					must(t, b.AddPort(tcp, anyPort(80)))
					src, dst := v4of(p.A), v4of(p.B)
					var tags []uint16
					l4 := 34
					switch family {
					case "v6":
						src, dst, l4 = v6of(p.A), v6of(p.B), 54
					case "vlan":
						tags, l4 = []uint16{7}, 38
					}
					s := segmentStream{t: t, a: a, b: b, src: src, dst: dst, l4: l4, tags: tags, whole: mode == ModeGeneric && csum == "partial"}
					s.run()
				})
			}
		}
	}
}

type segmentStream struct {
	t        *testing.T
	a, b     *Device
	src, dst host
	l4       int
	tags     []uint16
	whole    bool
	seq      uint32
}

const (
	testMSS = 1400
	flagCWR = 0x80
)

// run sends a large packet between small ones, some times, and takes in all.
func (s *segmentStream) run() {
	t, q := s.t, s.a.queues.all()[0]
	for round, size := range []int{64000, 45 * testMSS, testMSS + 1, 2 * testMSS} {
		data := pattern(size + 200)
		before, large, after := data[:100], data[100:100+size], data[100+size:]
		var all []ring.Desc
		all = append(all, put(t, s.a, segmentOf(s.src, s.dst, s.seq, false, before, s.tags...))...)
		b := segmentOf(s.src, s.dst, s.seq+100, true, large, s.tags...)
		b[s.l4+13] |= flagCWR
		flags := ring.FlagCWR
		if s.src.addr.Is6() {
			flags |= ring.FlagV6
		}
		ds := put(t, s.a, b)
		gso(ds, s.l4, testMSS, flags)
		all = append(all, ds...)
		all = append(all, put(t, s.a, segmentOf(s.src, s.dst, s.seq+100+uint32(size), false, after, s.tags...))...)
		if n := q.TxBatch(all); n != len(all) {
			t.Fatalf("TxBatch took %d of %d", n, len(all))
		}
		must(t, q.Kick())
		for _, d := range all {
			await(t, "no frame is held", func() bool { q.Reclaim(); return !s.a.arena.InNIC(d.Frame) })
			s.a.arena.Free(d.Frame)
		}
		var got bytes.Buffer
		largest := 0
		for got.Len() < len(data) {
			b, _ := receive(t, s.b, s.b.queues.all()[0], patience)
			if b == nil {
				t.Fatalf("round %d: %d of %d bytes came, %+v", round, got.Len(), len(data), q.Stats())
			}
			if len(b) < s.l4+32 || binary.BigEndian.Uint16(b[s.l4+2:]) != 80 {
				continue // the kernel's own
			}
			if at := binary.BigEndian.Uint32(b[s.l4+4:]) - s.seq; at != uint32(got.Len()) {
				t.Fatalf("round %d: byte %d came, want %d", round, at, got.Len())
			}
			if cwr := b[s.l4+13]&flagCWR != 0; cwr != (got.Len() == 100) {
				t.Errorf("round %d: CWR %v at byte %d", round, cwr, got.Len()) // RFC 3168 section 6.1.2
			}
			s.checkSum(b)
			largest = max(largest, len(b))
			got.Write(b[s.l4+32:])
		}
		if !bytes.Equal(got.Bytes(), data) {
			t.Errorf("round %d: not what was sent", round)
		}
		want := s.l4 + 32 + testMSS
		if s.whole {
			want = s.l4 + 32 + size
		}
		if largest != want {
			t.Errorf("round %d: largest frame %d, want %d", round, largest, want)
		}
		s.seq += uint32(len(data))
	}
}

// checkSum wants b's checksum partial or right.
func (s *segmentStream) checkSum(b []byte) {
	ph := pseudo(s.src.addr, s.dst.addr, tcp, len(b)-s.l4)
	field := binary.BigEndian.Uint16(b[s.l4+16:])
	if s.whole && field == ^sum(ph) {
		return
	}
	if ip.Add(^sum(ph), ip.Sum(b[s.l4:])) != 0xffff && field != ^sum(ph) {
		s.t.Errorf("checksum %#x of a frame of %d bytes is wrong", field, len(b))
	}
}

// A packet that nobody could segment is dropped and counted; frames that are
// not for us reach the kernel; nothing allocates.
func TestSegmentationLimits(t *testing.T) {
	p := lab.NewPair(t, lab.Options{Neighbors: true})
	a, b := openAt(t, p.A, Config{}), openAt(t, p.B, Config{})
	must(t, b.AddPort(tcp, anyPort(80)))
	q := a.queues.all()[0]
	src, dst := v4of(p.A), v4of(p.B)
	large := segmentOf(src, dst, 1, true, pattern(20000))
	for name, spoil := range map[string]func(ds []ring.Desc){
		"no size":       func(ds []ring.Desc) { ds[0].SegSize = 0 },
		"full checksum": func(ds []ring.Desc) { ds[0].Flags &^= ring.FlagCsumPartial },
		"bad offset":    func(ds []ring.Desc) { ds[0].CsumStart = 60000 },
		"worse offset":  func(ds []ring.Desc) { ds[0].CsumStart = 65530 },
		"no header":     func(ds []ring.Desc) { ds[0].HdrLen = 0 },
		"long header":   func(ds []ring.Desc) { ds[0].HdrLen = ds[0].Len + 1 },
		"UDP":           func(ds []ring.Desc) { ds[0].CsumOff = 6 },
	} {
		before := q.Stats().TxInvalid
		ds := put(t, a, large)
		gso(ds, 34, testMSS, 0)
		spoil(ds)
		if n := q.TxBatch(ds); n != len(ds) {
			t.Errorf("%s: TxBatch took %d of %d", name, n, len(ds))
		}
		if n := q.Stats().TxInvalid - before; n != 1 {
			t.Errorf("%s: %d counted as invalid", name, n)
		}
		for _, d := range ds {
			a.arena.Free(d.Frame)
		}
	}
	ds := put(t, a, large)
	gso(ds, 34, testMSS, 0)
	rx := make([]ring.Desc, 64)
	if n := allocs.PerRun(100, func() {
		for q.TxSpace() < len(ds) { // the kernel sends in its own time
			q.Reclaim()
			runtime.Gosched()
		}
		if n := q.TxBatch(ds); n != len(ds) {
			t.Fatalf("TxBatch took %d of %d, %+v", n, len(ds), q.Stats())
		}
		must(t, q.Kick())
		q.Reclaim()
		for _, d := range rx[:b.queues.all()[0].RxBatch(rx)] {
			b.arena.Free(d.Frame)
		}
		b.queues.all()[0].Refill()
	}); n != 0 {
		t.Errorf("a large packet costs %v allocations", n)
	}

	// A link that is down takes nothing: first that looks like a full ring,
	// then the packet is lost.
	must(t, p.B.SetDown())
	refused := 0
	for ; refused < 2*laneTries && q.TxBatch(ds) == 0; refused++ {
	}
	if refused >= laneTries {
		t.Errorf("refused %d times, want at most %d", refused, laneTries)
	}
	for _, d := range ds {
		a.arena.Free(d.Frame)
	}
}

// No packet for others comes in by the packet socket, and none is held there.
func TestLaneReceivesNothing(t *testing.T) {
	p := lab.NewPair(t, lab.Options{Neighbors: true})
	d := openAt(t, p.A, Config{})
	c, err := p.B.Dial("udp", netip.AddrPortFrom(p.A.Addr4, 9).String())
	must(t, err)
	defer c.Close()
	for range 10 {
		if _, err := c.Write([]byte("x")); err != nil && !strings.Contains(err.Error(), "refused") {
			t.Fatal(err)
		}
	}
	if n, _, err := unix.Recvfrom(d.queues.all()[0].lane.fd, make([]byte, 100), unix.MSG_DONTWAIT); err != unix.EAGAIN {
		t.Errorf("the packet socket received %d bytes, %v", n, err)
	}
}
