package pcapfilter

import (
	"bytes"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
	"golang.org/x/net/bpf"

	"github.com/onload-go/onload/internal/need"
	_ "github.com/onload-go/onload/internal/testlong" // go test ./... -long
)

// packets are random ones of the kinds that filters tell apart.
func packets(n int) (all [][]byte) {
	r := rand.New(rand.NewPCG(3, 4))
	pick := func(of ...int) int { return of[r.IntN(len(of))] }
	for range n {
		p := make([]byte, 64+r.IntN(900))
		for i := range p {
			p[i] = byte(r.Uint32())
		}
		l3 := 14
		if r.IntN(5) == 0 { // a VLAN
			p[12], p[13], p[14], p[15] = 0x81, 0, 0, byte(pick(5, 6))
			l3 = 18
		}
		port := func(at int) {
			v := pick(53, 80, 443, 8080)
			p[at], p[at+1] = byte(v>>8), byte(v)
		}
		switch r.IntN(6) {
		case 0: // ARP
			p[l3-2], p[l3-1] = 8, 6
		case 1: // IPv6
			p[l3-2], p[l3-1] = 0x86, 0xdd
			p[l3], p[l3+6] = 0x60, byte(pick(6, 17, 58, 44))
			port(l3 + 40)
			port(l3 + 42)
		default: // IPv4, now and then a fragment
			p[l3-2], p[l3-1] = 8, 0
			p[l3], p[l3+6], p[l3+7] = byte(pick(0x45, 0x46)), byte(pick(0x40, 0x40, 0x20)), byte(pick(0, 0, 0, 9))
			p[l3+9] = byte(pick(1, 2, 6, 6, 17))
			copy(p[l3+12:], []byte{10, 0, 0, byte(pick(1, 2, 3))})
			copy(p[l3+16:], []byte{10, 0, byte(pick(0, 1)), byte(pick(1, 2, 3))})
			port(l3 + int(p[l3]&15)*4)
			port(l3 + int(p[l3]&15)*4 + 2)
		}
		all = append(all, p)
	}
	return all
}

// TestVersusTcpdump: the instructions, run as the programs that are captured run them, let
// the packets pass that tcpdump's own filter does.
func TestVersusTcpdump(t *testing.T) {
	tcpdump, err := find()
	if err != nil {
		need.Missing(t, "%v", err)
	}
	all := packets(1000)
	var file bytes.Buffer
	w := pcapgo.NewWriter(&file)
	if err := w.WriteFileHeader(65535, layers.LinkTypeEthernet); err != nil {
		t.Fatal(err)
	}
	for _, p := range all {
		if err := w.WritePacket(gopacket.CaptureInfo{Timestamp: time.Unix(1, 0), CaptureLength: len(p), Length: len(p)}, p); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(t.TempDir(), "all.pcap")
	if err := os.WriteFile(path, file.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, e := range []string{
		"tcp", "icmp", "! tcp", "arp or icmp6", "tcp && port 80", "tcp port 443", "src port 53", "host 10.0.0.1 and not port 80",
		"udp or tcp and port 80", "net 10.0.1.0/24", "tcp[tcpflags] & tcp-syn != 0", "tcp[13] & 2 != 0", "vlan 5 and udp",
		"greater 500", "portrange 50-90", "ip6 and tcp port 80", "ip[6:2] & 0x1fff != 0", "len <= 100", "ether[0] & 1 != 0",
	} {
		raw, err := Compile(e)
		if err != nil {
			t.Errorf("%s: %v", e, err)
			continue
		}
		program, ok := bpf.Disassemble(raw)
		if !ok {
			t.Errorf("%s: an unknown instruction", e)
			continue
		}
		vm, err := bpf.NewVM(program)
		if err != nil {
			t.Errorf("%s: %v", e, err)
			continue
		}
		var ours [][]byte
		for _, p := range all {
			if n, err := vm.Run(p); err != nil {
				t.Errorf("%s: %v", e, err)
			} else if n > 0 {
				ours = append(ours, p)
			}
		}
		theirs := passed(t, exec.Command(tcpdump, "-r", path, "-w", "-", "--", e))
		if len(ours) == 0 || len(ours) == len(all) || len(ours) != len(theirs) {
			t.Errorf("%s: %d packets pass, %d by tcpdump", e, len(ours), len(theirs))
			continue
		}
		for i := range ours {
			if !bytes.Equal(ours[i], theirs[i]) {
				t.Errorf("%s: packet %d is another one", e, i)
				break
			}
		}
	}
	if raw, err := Compile("  "); raw != nil || err != nil {
		t.Errorf("no filter: %v, %v", raw, err)
	}
	for e, want := range map[string]string{"tcp prot 80": "syntax error", "inbound": "-Q", "host": "syntax error", "-w /tmp/x": "syntax error"} {
		if _, err := Compile(e); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", e, err)
		}
	}
}

// passed returns the packets that tcpdump writes.
func passed(t *testing.T, tcpdump *exec.Cmd) (all [][]byte) {
	t.Helper()
	out, err := tcpdump.Output()
	if err != nil {
		t.Fatal(err)
	}
	r, err := pcapgo.NewReader(bytes.NewReader(out))
	if err != nil {
		t.Fatal(err)
	}
	for {
		p, _, err := r.ReadPacketData()
		if err != nil {
			return all
		}
		all = append(all, p)
	}
}

// TestParse: only what tcpdump -ddd prints is taken.
func TestParse(t *testing.T) {
	for _, wrong := range []string{"", "0", "2\n6 0 0 1", "1\n6 0 0", "1\n70000 0 0 1", "1\n6 300 0 1", "x\n6 0 0 1"} {
		if all, err := parse(wrong); err == nil {
			t.Errorf("%q: %v", wrong, all)
		}
	}
}
