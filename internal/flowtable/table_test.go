package flowtable

import (
	"fmt"
	"net/netip"
	"os"
	"slices"
	"testing"
	"unsafe"
)

func newTable(t testing.TB) *Table {
	tab, err := New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := tab.Close(); err != nil {
			t.Error(err)
		}
	})
	return tab
}

func ends(i int) (local, remote netip.AddrPort) {
	if i%2 == 0 {
		return netip.MustParseAddrPort("192.0.2.1:80"), netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 51, byte(i >> 8), byte(i)}), uint16(1+i))
	}
	return netip.MustParseAddrPort("[2001:db8::1]:80"), netip.AddrPortFrom(netip.MustParseAddr(fmt.Sprintf("2001:db8::%x", i)), uint16(1+i))
}

func TestEntrySize(t *testing.T) {
	if unsafe.Sizeof(entry{}) != EntrySize || unsafe.Sizeof(header{}) != EntrySize {
		t.Errorf("%d and %d bytes", unsafe.Sizeof(entry{}), unsafe.Sizeof(header{}))
	}
}

// A reader of the descriptor sees the connections of all writers that have not ended.
func TestFlows(t *testing.T) {
	tab := newTable(t)
	writers := []*Writer{tab.Writer(), tab.Writer()}
	want := map[Flow]bool{}
	type kept struct {
		w  *Writer
		s  Slot
		fl Flow
	}
	var l []kept
	for i := range 1000 {
		w := writers[i%2]
		local, remote := ends(i)
		s := w.Add(local, remote, 7, uint32(i))
		if s == 0 {
			t.Fatal("full")
		}
		l = append(l, kept{w, s, Flow{Local: local, Remote: remote, Seq: uint32(i)}})
		if i%3 == 0 { // one of those before ends
			k := l[i/2]
			k.w.Remove(k.s)
			l[i/2].s = 0
		}
	}
	slots := map[Slot]bool{}
	for _, k := range l {
		if k.s != 0 {
			want[k.fl] = true
			if slots[k.s] {
				t.Fatalf("slot %d twice", k.s)
			}
			slots[k.s] = true
		}
	}

	n := 0
	if err := Read(tab.FD(), Most, func(f Flow) bool {
		n++
		if !want[f] {
			t.Errorf("%+v", f)
		}
		return true
	}); err != nil {
		t.Fatal(err)
	}
	if n != len(want) {
		t.Errorf("%d connections, want %d", n, len(want))
	}
	if n := int(tab.header.used.Load()); n > 1000+2*blockLen {
		t.Errorf("%d entries used", n)
	}
}

func TestLinkLocal(t *testing.T) {
	tab := newTable(t)
	w := tab.Writer()
	local, remote := netip.MustParseAddrPort("[fe80::1]:80"), netip.MustParseAddrPort("[fe80::2]:81")
	w.Add(local, remote, 7, 1)
	var got []Flow
	if err := Read(tab.FD(), Most, func(f Flow) bool { got = append(got, f); return true }); err != nil {
		t.Fatal(err)
	}
	if want := []Flow{{local, remote, 7, 1}}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

// A full table takes no more, and takes again what becomes free.
func TestFull(t *testing.T) {
	tab := newTable(t)
	tab.header.used.Store(Most + 1 - 2*blockLen)
	w := tab.Writer()
	local, remote := ends(0)
	var last Slot
	for range blockLen {
		if last = w.Add(local, remote, 0, 0); last == 0 {
			t.Fatal("full too early")
		}
	}
	if last > Most {
		t.Fatalf("slot %d", last)
	}
	if s := w.Add(local, remote, 0, 0); s != 0 {
		t.Errorf("slot %d of a full table", s)
	}
	w.Remove(0)
	w.Remove(last)
	if s := w.Add(local, remote, 0, 0); s != last {
		t.Errorf("slot %d, want %d", s, last)
	}
}

// A file that is no table is refused, whatever it is, and no more is read than asked for.
func TestReadRefuses(t *testing.T) {
	none := func(Flow) bool { t.Error("a flow"); return true }
	short, err := os.Create(t.TempDir() + "/short")
	if err != nil {
		t.Fatal(err)
	}
	defer short.Close()
	zero, err := os.Open("/dev/zero")
	if err != nil {
		t.Fatal(err)
	}
	defer zero.Close()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	for _, f := range []*os.File{short, zero, r} {
		if Read(int(f.Fd()), Most, none) == nil {
			t.Errorf("%s was read", f.Name())
		}
	}

	tab := newTable(t)
	wr := tab.Writer()
	local, remote := ends(0)
	for range 10 {
		wr.Add(local, remote, 0, 0)
	}
	n := 0
	if err := Read(tab.FD(), 3, func(Flow) bool { n++; return true }); err != nil || n != 3 {
		t.Errorf("%d flows of 3, %v", n, err)
	}
	tab.header.used.Store(1 << 31) // a writer may write anything
	n = 0
	if err := Read(tab.FD(), Most, func(Flow) bool { n++; return true }); err != nil || n != 10 {
		t.Errorf("%d flows of 10, %v", n, err)
	}
}

// BenchmarkEntry is what a connection pays from its establishment to its end.
func BenchmarkEntry(b *testing.B) {
	w := newTable(b).Writer()
	local, remote := ends(1)
	var slots [1024]Slot
	for i := range slots {
		slots[i] = w.Add(local, remote, 0, 0)
	}
	b.ReportAllocs()
	for i := range b.N {
		k := i & 1023
		w.Remove(slots[k])
		slots[k] = w.Add(local, remote, 0, uint32(i))
	}
}
