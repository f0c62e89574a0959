package policy

import (
	"net/netip"
	"strings"
	"testing"

	_ "github.com/onload-go/onload/internal/testlong" // go test ./... -long
)

const sample = `
# a comment
[[allow]]
users = ["root", 1000]
groups = [33]
interfaces = ["eth0"]
addresses = ["192.0.2.0/24", "2001:db8::1"]
ports = ["tcp 8080", "udp 5000-5999", "tcp ephemeral"]
memory = "64MiB"
rate = "1Gbit"
packets = 1000
max-ports = 10
processes = 2

[[allow]]
users = ["1001"]
interfaces = ["*"]

[[allow]]
users = [1000]
interfaces = ["eth1"]
memory = "1GiB"

[[allow]]
groups = ["*"]
interfaces = ["eth2"]
`

func TestAllowed(t *testing.T) {
	p, err := Parse([]byte(sample))
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range []struct {
		user  uint32
		group uint32
		iface string
		proto uint8
		at    string
		ok    bool
	}{
		{1000, 1000, "eth0", 6, "192.0.2.1:8080", true},
		{0, 0, "eth0", 6, "192.0.2.1:8080", true},
		{5, 33, "eth0", 6, "192.0.2.1:8080", true},
		{5, 34, "eth0", 6, "192.0.2.1:8080", false},
		{1000, 0, "eth0", 17, "192.0.2.1:8080", false},
		{1000, 0, "eth0", 6, "192.0.3.1:8080", false},
		{1000, 0, "eth0", 6, "192.0.2.1:8081", false},
		{1000, 0, "eth0", 6, "192.0.2.1:40000", true},
		{1000, 0, "eth0", 17, "192.0.2.1:40000", false},
		{1000, 0, "eth0", 17, "[2001:db8::1]:5999", true},
		{1000, 0, "eth0", 17, "[2001:db8::2]:5999", false},
		{1000, 0, "eth0", 17, "192.0.2.1:6000", false},
		{1000, 0, "eth0", 6, "0.0.0.0:8080", false}, // all addresses are not its
		{1000, 0, "eth1", 6, "0.0.0.0:8080", true},
		{1001, 0, "eth7", 6, "[::]:1", true},
		{1002, 0, "eth7", 6, "[::]:1", false},
		{1002, 0, "eth2", 6, "[::]:1", true},
	} {
		u := User{x.user, []uint32{x.group}}
		if ok := p.Port(u, x.iface, x.proto, netip.MustParseAddrPort(x.at), [2]uint16{32768, 60999}); ok != x.ok {
			t.Errorf("%+v: %v", x, ok)
		}
	}
	if !p.Port(User{UID: 1001}, "eth0", 6, netip.AddrPortFrom(netip.Addr{}, 80), [2]uint16{}) {
		t.Error("any address, of both families")
	}
}

func TestLimits(t *testing.T) {
	p, err := Parse([]byte(sample))
	if err != nil {
		t.Fatal(err)
	}
	want := Limits{Memory: 64 << 20, Ports: 10, Processes: 2, RateBytes: 125e6, Packets: 1000}
	if l, ok := p.Limits(User{UID: 1000}, "eth0"); !ok || l != want {
		t.Errorf("%+v, %v", l, ok)
	}
	want = Limits{Memory: DefaultMemory, Ports: DefaultPorts, Processes: DefaultProcesses}
	if l, ok := p.Limits(User{UID: 1001, Groups: []uint32{33}}, "eth0"); !ok || l != want {
		t.Errorf("of two rules: %+v, %v", l, ok)
	}
	if l, ok := p.Limits(User{UID: 1002}, "eth0"); ok {
		t.Errorf("of no rule: %+v", l)
	}
	all := []string{"eth0", "eth1", "eth2"}
	for uid, want := range map[uint32]string{0: "eth0 eth2", 1000: "eth0 eth1 eth2", 1001: "eth0 eth1 eth2", 7: "eth2"} {
		if got := strings.Join(p.Interfaces(User{UID: uid}, all), " "); got != want {
			t.Errorf("interfaces of %d: %q instead of %q", uid, got, want)
		}
	}
}

// TestErrors: each names what is wrong.
func TestErrors(t *testing.T) {
	rule := func(more string) string {
		return "[[allow]]\nusers = [1]\ninterfaces = [\"eth0\"]\n" + more
	}
	for text, want := range map[string]string{
		"":                                     "[[allow]]",
		"[[allow]]\ninterfaces = [\"eth0\"]\n": "users",
		"[[allow]]\nusers = [1]\n":             "interfaces",
		rule("user = [2]\n"):                   `line 4: there is no field "allow.user"`,
		"[[alow]]\nusers = [1]\n":              `no field "alow"`,
		rule("users = [2]\n"):                  "line 4",
		rule("memory = 64\n"):                  "line 4",
		rule("memory = \"64MB\"\n"):            "memory: \"64MB\"",
		rule("memory = \"-1MiB\"\n"):           "memory",
		rule("memory = \"99999999999GiB\"\n"):  "memory",
		rule("rate = \"fast\"\n"):              "rate: \"fast\"",
		rule("packets = 0\n"):                  "packets: 0",
		rule("max-ports = 70000\n"):            "max-ports: 70000",
		rule("processes = -1\n"):               "processes: -1",
		rule("addresses = [\"eth0\"]\n"):       "addresses: \"eth0\"",
		rule("addresses = [\"192.0.2.1/24\"]"): "192.0.2.0/24",
		rule("ports = [\"80\"]\n"):             "ports: \"80\"",
		rule("ports = [\"tcp\"]\n"):            "ports: \"tcp\"",
		rule("ports = [\"tcp 9-8\"]\n"):        "ports: \"tcp 9-8\"",
		rule("ports = [\"sctp 9\"]\n"):         "ports: \"sctp 9\"",
		"[[allow]]\nusers = [\"no-such-user\"]\ninterfaces = [\"*\"]\n":   "no-such-user",
		"[[allow]]\ngroups = [\"no-such-group\"]\ninterfaces = [\"*\"]\n": "no-such-group",
		"[[allow]]\nusers = [-1]\ninterfaces = [\"*\"]\n":                 "users: -1",
		"[[allow]]\nusers = [4294967295]\ninterfaces = [\"*\"]\n":         "users: 4294967295",
		"[[allow]]\nusers = [true]\ninterfaces = [\"*\"]\n":               "users: true",
		"[[allow]": "line 1",
	} {
		if _, err := Parse([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, which does not say %q", text, err, want)
		}
	}
}

// FuzzParse: a file that is accepted has rules that can be asked.
func FuzzParse(f *testing.F) {
	f.Add([]byte(sample))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := Parse(b)
		if err != nil {
			return
		}
		if p.Port(User{UID: 1}, "eth0", 6, netip.MustParseAddrPort("192.0.2.1:80"), [2]uint16{1, 2}) {
			if l, ok := p.Limits(User{UID: 1}, "eth0"); !ok || l.Memory <= 0 || l.Ports <= 0 || l.Processes <= 0 {
				t.Errorf("%q: %+v, %v", b, l, ok)
			}
		}
	})
}
