package nicshare

import (
	"encoding/binary"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
)

// An Open that fails when the program is attached leaves nothing.
func TestOpenFails(t *testing.T) {
	w := newNetwork(t)
	must(t, w.A.Do(func() error {
		k, err := netlink.LinkByName(w.A.If)
		if err != nil {
			return err
		}
		// More addresses than the programs can know.
		for i := range uint32(maxAddresses + 1) {
			var b [4]byte
			binary.BigEndian.PutUint32(b[:], 10<<24|99<<16|i)
			a := netip.PrefixFrom(netip.AddrFrom4(b), 32)
			if err := netlink.AddrAdd(k, &netlink.Addr{IPNet: netlink.NewIPNet(a.Addr().AsSlice())}); err != nil {
				return err
			}
		}
		return nil
	}))
	n, err := Open(w.config(ModeGeneric))
	if err == nil {
		_ = n.Close()
		t.Fatal("it opens")
	}
	w.nothingLeft(t)
}

// Pins of a version with other maps are left alone, with what to type; and Remove takes them.
func TestOtherLayout(t *testing.T) {
	w := newNetwork(t)
	n, err := Open(w.config(ModeGeneric))
	must(t, err)
	start(t, w.A, n, LinkConfig{})
	must(t, n.Detach())
	pin := filepath.Join(w.pins, w.A.If, "links")
	must(t, os.Remove(pin))
	other, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Hash, KeySize: 4, ValueSize: 4, MaxEntries: 16})
	must(t, err)
	must(t, other.Pin(pin))
	must(t, other.Close())
	n, err = Open(w.config(ModeGeneric))
	if err == nil {
		must(t, n.Close())
		t.Fatal("it opens")
	}
	if want := "onload broker -interfaces " + w.A.If + " -remove"; !strings.Contains(err.Error(), want) {
		t.Errorf("%v: does not name %s", err, want)
	}
	must(t, Remove(w.config(ModeGeneric)))
	w.nothingLeft(t)
	must(t, Remove(w.config(ModeGeneric))) // there is nothing
	w.nothingLeft(t)
	n, err = Open(w.config(ModeGeneric))
	must(t, err)
	if err := Remove(w.config(ModeGeneric)); err == nil {
		t.Error("it removes what another process has")
	}
	must(t, n.Close())
}

// The program of somebody else before the filter stays, and the filter is renewed.
func TestProgramBeforeFilter(t *testing.T) {
	w := newNetwork(t)
	n, err := Open(w.config(ModeGeneric))
	must(t, err)
	p := start(t, w.A, n, LinkConfig{})
	w.allow(p, udp, port)
	peer := observe(t, w.B)
	foreign, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.SchedCLS, License: "GPL", Name: "somebodys",
		Instructions: asm.Instructions{asm.LoadImm(asm.R0, -1, asm.DWord), asm.Return()}, // TC_ACT_UNSPEC: the next one decides
	})
	must(t, err)
	defer foreign.Close()
	must(t, w.A.Do(func() error {
		return link.RawAttachProgram(link.RawAttachProgramOptions{
			Target: p.link.index, Program: foreign, Attach: ebpf.AttachTCXIngress, Anchor: link.Head(),
		})
	}))
	for range 2 {
		must(t, n.Detach())
		n, err = Open(w.config(ModeGeneric))
		must(t, err)
		w.exchangeOnce(t, p, peer)
		must(t, w.A.Do(func() error {
			at, err := link.QueryPrograms(link.QueryOptions{Target: p.link.index, Attach: ebpf.AttachTCXIngress})
			if err != nil {
				return err
			}
			info, err := foreign.Info()
			if err != nil {
				return err
			}
			if id, _ := info.ID(); len(at.Programs) != 2 || at.Programs[0].ID != id {
				t.Errorf("programs %+v, the first was %d", at.Programs, id)
			}
			return nil
		}))
	}
	must(t, n.Close())
	w.nothingLeft(t)
}
