package tcp

import (
	"encoding/hex"
	"net/netip"
	"strings"
	"testing"
)

const testFastKey = "00112233-44556677-8899aabb-ccddeeff"

func TestParseFastOpenKeys(t *testing.T) {
	for s, want := range map[string]string{
		testFastKey:                "3322110077665544bbaa9988ffeeddcc",
		"1-2-3-4,ABCDEF-0-0-1":     "01000000020000000300000004000000efcdab00000000000000000001000000",
		"":                         "",
		"1-2-3":                    "",
		"1-2-3-4-5":                "",
		"1-2-3-4,":                 "",
		"1-2-3-4,1-2-3-4,1-2-3-4":  "",
		"1-2-3-123456789":          "",
		"1-2-3-g":                  "",
		"1-2--4":                   "",
		"1-2-3-+4":                 "",
		"1-2-3-0x4":                "",
		"1-2-3-4 ":                 "",
		"secret-1-2-3":             "",
		strings.Repeat("1-", 1000): "",
	} {
		keys, err := ParseFastOpenKeys(s)
		if g := hex.EncodeToString(keys.Bytes()); g != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v", s, g, err)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("the error quotes the key: %v", err)
		}
	}
}

// The values are those of an independent program that reproduces the cookies
// which Linux gave in public traces.
func TestFastOpenKeyCookie(t *testing.T) {
	keys, err := ParseFastOpenKeys(testFastKey + ",1-2-3-4")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		key            int
		client, server string
		want           string
	}{
		{0, "10.1.2.3", "10.4.5.6", "061e4c4251e27bcd"},
		{0, "2001:db8::3", "2001:db8::6", "874ca3900f6707d8"},
		{1, "10.1.2.3", "10.4.5.6", "3e44c3e7a683699b"},
	} {
		k := keys.Keys[c.key].cookie(&Pair{Local: netip.MustParseAddr(c.server), Remote: netip.MustParseAddr(c.client)})
		if g := hex.EncodeToString(k[:8]); g != c.want || k[8] != 0 {
			t.Errorf("client %s: %s, want %s", c.client, g, c.want)
		}
	}
}

// Listeners with the same key take each other's cookies; one that has it as
// its second replaces them.
func TestRFC7413Keys(t *testing.T) {
	both, _ := ParseFastOpenKeys(testFastKey + ",1-2-3-4")
	first, _ := ParseFastOpenKeys(testFastKey)
	second, _ := ParseFastOpenKeys("1-2-3-4")
	old := newBench(t, 8, Config{FastOpen: 4, FastOpenKeys: second})
	k := old.askCookie(testRemote)
	old.now += 100 * fastOpenPeriod
	if old.askCookie(testRemote) != k {
		t.Error("a cookie of a key that was given expires")
	}
	for i, c := range []struct {
		keys FastOpenKeys
		take bool // the SYN's data
		give bool // another cookie
	}{
		{second, true, false},
		{both, true, true},
		{first, false, true},
		{FastOpenKeys{}, false, true},
	} {
		b := newBench(t, 8, Config{FastOpen: 4, FastOpenKeys: c.keys})
		b.keep = true
		syn := fastSYN(k)
		b.in(syn, "x")
		sa := b.one(FlagSYN | FlagACK)
		if (sa.Ack == syn.Seq+2) != c.take || (sa.Opt.FastOpen == fastOpenOurs) != c.give || c.give && sa.Opt.FastOpenCookie == k {
			t.Errorf("%d: SYN-ACK %+v", i, sa)
		}
		if n := b.h.Stats.TCPFastOpenPassiveAltKey; (n == 1) != (c.take && c.give) {
			t.Errorf("%d: %d by the second key", i, n)
		}
	}
}

// TCP_FASTOPEN_NO_COOKIE, of a listener.
func TestRFC7413NoCookie(t *testing.T) {
	b := newBench(t, 8, Config{FastOpen: 2, FastOpenNoCookie: true})
	b.keep = true
	syn := linuxSYN()
	b.in(syn, "x")
	if sa := b.one(FlagSYN | FlagACK); sa.Ack != syn.Seq+2 || sa.Opt.FastOpen != 0 || len(b.accepted) != 1 {
		t.Errorf("SYN-ACK %+v", sa)
	}
	// Without data nothing is different, also for those that ask.
	syn.Remote = netip.AddrPortFrom(testRemote.Addr(), 7)
	b.in(syn, "")
	if sa := b.one(FlagSYN | FlagACK); sa.Opt.FastOpen != 0 || len(b.accepted) != 1 {
		t.Errorf("SYN-ACK %+v", sa)
	}
	syn.Remote = netip.AddrPortFrom(testRemote.Addr(), 8)
	syn.Opt.FastOpen = fastOpenAsk
	b.in(syn, "")
	if sa := b.one(FlagSYN | FlagACK); sa.Opt.FastOpen != fastOpenOurs || len(b.accepted) != 1 {
		t.Errorf("SYN-ACK %+v", sa)
	}
	// The limit holds.
	for port := range uint16(3) {
		syn = linuxSYN()
		syn.Remote = netip.AddrPortFrom(testRemote.Addr(), 100+port)
		b.in(syn, "x")
	}
	if len(b.accepted) != 2 || b.h.Stats.TCPFastOpenListenOverflow != 2 {
		t.Errorf("%d accepted, %d overflows", len(b.accepted), b.h.Stats.TCPFastOpenListenOverflow)
	}
}

// RFC 7413 section 10: a peer that uses the experimental option is answered
// likewise.
func TestRFC7413Experiment(t *testing.T) {
	b := newBench(t, 8, Config{FastOpen: 4})
	b.keep = true
	ask := linuxSYN()
	ask.Opt.FastOpen, ask.Opt.FastOpenExp = fastOpenAsk, true
	b.in(ask, "x")
	sa := b.one(FlagSYN | FlagACK)
	if sa.Ack != ask.Seq+1 || sa.Opt.FastOpen != fastOpenOurs || !sa.Opt.FastOpenExp {
		t.Fatalf("SYN-ACK %+v", sa)
	}
	syn := fastSYN(sa.Opt.FastOpenCookie)
	syn.Opt.FastOpenExp = true
	syn.Remote = netip.AddrPortFrom(testRemote.Addr(), 7)
	b.in(syn, "x")
	if sa := b.one(FlagSYN | FlagACK); sa.Ack != syn.Seq+2 || sa.Opt.FastOpen != 0 {
		t.Errorf("SYN-ACK %+v", sa)
	}
	b.now += fastOpenPeriod
	syn.Remote = netip.AddrPortFrom(testRemote.Addr(), 8)
	b.in(syn, "x")
	if sa := b.one(FlagSYN | FlagACK); sa.Ack != syn.Seq+2 || sa.Opt.FastOpen != fastOpenOurs || !sa.Opt.FastOpenExp {
		t.Errorf("SYN-ACK for an old cookie %+v", sa)
	}

	for in, want := range map[string]uint8{
		"\xfe\x04\xf9\x89":                             2,
		"\xfe\x08\xf9\x891234":                         6,
		"\xfe\x14\xf9\x89" + strings.Repeat("x", 16):   18,
		"\xfe\x06\xf9\x89ab":                           0,
		"\xfe\x04\xf9\x88":                             0, // another experiment
		"\xfe\x03\xf9":                                 0,
		"\x22\x061234\xfe\x08\xf9\x895678":             6,
		"\xfe\x08\xf9\x891234\x22\x02":                 2,
		"\xfe\x14\xf9\x89" + strings.Repeat("x", 15):   0,
		"\xfe\x16\xf9\x89" + strings.Repeat("x", 18):   0,
		"\x01\x01\xfe\x08\xf9\x891234\x02\x04\x05\xb4": 6,
	} {
		var o Options
		o.Parse([]byte(in), true)
		if o.FastOpen != want || o.FastOpen != 0 && o.FastOpenExp == strings.Contains(in, "\x22\x02") {
			t.Errorf("%q: %d, %v", in, o.FastOpen, o.FastOpenExp)
		}
	}
	var out [maxOptions]byte
	o := Options{MSS: 1460, SACKPermitted: true, HasTS: true, WScale: 7, FastOpen: 10, FastOpenExp: true}
	copy(o.FastOpenCookie[:], "12345678")
	n := putSYNOptions(out[:], &o)
	if got := string(out[20:n]); got != "\xfe\x0c\xf9\x8912345678" {
		t.Errorf("written as %q", got)
	}
}
