package capture

import (
	"bytes"
	"testing"

	"github.com/gopacket/gopacket/pcapgo"

	"github.com/onload-go/onload/driver/sim"
	"github.com/onload-go/onload/ring"
)

// A tap tells two interfaces and their queues apart, and has the reason with
// each packet that the stack dropped; answers stand behind what they answer.
func TestTap(t *testing.T) {
	var file bytes.Buffer
	c, err := New(&file, Options{Interfaces: []string{"left0", "right0"}})
	if err != nil {
		t.Fatal(err)
	}
	cfg := sim.Config{TakeAll: true, TxRing: 64, RxRing: 64}
	a, b, err := sim.New(cfg, cfg, sim.LinkConfig{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close(); b.Close() })
	b.Queues()[0].Refill()
	left, right := c.Tap(a, 0), c.Tap(b, 1)
	tx, rx := left.Queues()[0], right.Queues()[0]
	var sent []ring.Desc
	for i := range 3 {
		f, _ := a.Arena().Alloc()
		copy(a.Arena().Bytes(f), frame(60+i, byte(i)))
		sent = append(sent, ring.Desc{Frame: f, Len: uint16(60 + i)})
	}
	if tx.TxBatch(sent) != 3 || tx.Kick() != nil {
		t.Fatal("not sent")
	}
	ds := make([]ring.Desc, 8)
	n := rx.RxBatch(ds)
	if n != 3 {
		t.Fatalf("received %d", n)
	}
	right.Dropped(0, ds[1].Frame, "checksum")
	right.Dropped(0, ds[2].Frame, "malformed")
	right.Dropped(0, ring.Frame(12345), "checksum") // of an earlier batch
	if rx.TxBatch(ds[:1]) != 1 {
		t.Fatal("no answer")
	}
	right.Done(0)
	right.Dropped(0, ds[0].Frame, "too late")
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	r, err := pcapgo.NewNgReader(&file, pcapgo.NgReaderOptions{WantMixedLinkType: true})
	if err != nil {
		t.Fatal(err)
	}
	for i, w := range []struct {
		link    int
		length  int
		dir     pcapgo.NgEpbFlag
		comment string
	}{
		{0, 60, pcapgo.NgEpbFlagDirectionOutbound, ""},
		{0, 61, pcapgo.NgEpbFlagDirectionOutbound, ""},
		{0, 62, pcapgo.NgEpbFlagDirectionOutbound, ""},
		{1, 60, pcapgo.NgEpbFlagDirectionInbound, ""},
		{1, 61, pcapgo.NgEpbFlagDirectionInbound, "dropped: checksum"},
		{1, 62, pcapgo.NgEpbFlagDirectionInbound, "dropped: malformed"},
		{1, 60, pcapgo.NgEpbFlagDirectionOutbound, ""},
	} {
		_, ci, opt, err := r.ReadPacketDataWithOptions()
		if err != nil {
			t.Fatalf("packet %d: %v", i, err)
		}
		comment := ""
		if len(opt.Comments) > 0 {
			comment = opt.Comments[0]
		}
		if ci.InterfaceIndex != w.link || ci.Length != w.length || opt.Flags.Direction != w.dir || comment != w.comment {
			t.Errorf("packet %d: interface %d, %d bytes, direction %v, %q", i, ci.InterfaceIndex, ci.Length, opt.Flags.Direction, comment)
		}
	}
	if l, err := r.Interface(1); err != nil || l.Name != "right0" {
		t.Errorf("%+v, %v", l, err)
	}
}
