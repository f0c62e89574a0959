package onload_test

import (
	"bytes"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"

	"github.com/onload-go/onload/driver/capture"
	"github.com/onload-go/onload/internal/lab"
	onload "github.com/onload-go/onload/net"
)

// readCapture returns the number of packets in each direction, and all of their
// payload.
func readCapture(t *testing.T, file *bytes.Buffer, name string) (in, out int, all []byte, comments []string) {
	t.Helper()
	r, err := pcapgo.NewNgReader(file, pcapgo.NgReaderOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for {
		b, _, opt, err := r.ReadPacketDataWithOptions()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if opt.Flags.Direction == pcapgo.NgEpbFlagDirectionInbound {
			in++
		} else {
			out++
		}
		all = append(all, b...)
		comments = append(comments, opt.Comments...)
	}
	if l, err := r.Interface(0); err != nil || l.Name != name || l.LinkType != layers.LinkTypeEthernet {
		t.Errorf("interface %+v, %v", l, err)
	}
	return in, out, all, comments
}

// A capture starts and ends while a connection is open: it has what was sent
// meanwhile, and nothing else.
func TestCapture(t *testing.T) {
	p := lab.NewPair(t, lab.Options{})
	e := vethEngine(t, p.A, onload.Config{})
	ln, err := p.B.Listen("tcp", net.JoinHostPort(p.B.Addr4.String(), "0"))
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go echoing(ln)
	c, err := e.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	say := func(s string) {
		t.Helper()
		b := make([]byte, len(s))
		if _, err := io.WriteString(c, s); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c, b); err != nil || string(b) != s {
			t.Fatalf("%q, %v", b, err)
		}
	}
	for range 2 {
		say("before")
		var file bytes.Buffer
		k, err := capture.Start(e, &file, capture.Options{})
		if err != nil {
			t.Fatal(err)
		}
		var second bytes.Buffer
		k2, err := capture.Start(e, &second, capture.Options{})
		if err != nil {
			t.Fatal(err)
		}
		for range 10 {
			say("during")
		}
		if err := k.Close(); err != nil {
			t.Fatal(err)
		}
		say("behind")
		if err := k2.Close(); err != nil {
			t.Fatal(err)
		}
		if _, _, all, _ := readCapture(t, &second, p.A.If); bytes.Count(all, []byte("during")) < 20 || !bytes.Contains(all, []byte("behind")) {
			t.Error("the second file, which was open longer, has not all that was sent")
		}
		s := k.Stats()
		in, out, all, comments := readCapture(t, &file, p.A.If)
		if in < 10 || out < 10 || s.Written != uint64(in+out) || s.Dropped != 0 {
			t.Errorf("%d in, %d out, %+v", in, out, s)
		}
		if n := bytes.Count(all, []byte("during")); n < 20 {
			t.Errorf("%d of 20 in the file", n)
		}
		if bytes.Contains(all, []byte("behind")) || len(comments) != 0 {
			t.Errorf("in the file: what was sent later, or %q", comments)
		}
		if err := k.Close(); err != nil {
			t.Error(err)
		}
	}

	// A packet that the stack drops has the reason with it.
	u, err := e.ListenPacket("udp", net.JoinHostPort(p.A.Addr4.String(), "0"))
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	if err := u.(*onload.UDPConn).SetReadBuffer(1); err != nil {
		t.Fatal(err)
	}
	var file bytes.Buffer
	k, err := capture.Start(e, &file, capture.Options{})
	if err != nil {
		t.Fatal(err)
	}
	d, err := p.B.Dial("udp", u.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	for range 100 {
		if _, err := d.Write(make([]byte, 1000)); err != nil {
			t.Fatal(err)
		}
	}
	say("behind the datagrams")
	if err := k.Close(); err != nil {
		t.Fatal(err)
	}
	if _, _, _, comments := readCapture(t, &file, p.A.If); len(comments) == 0 || !strings.Contains(comments[0], "dropped: receive buffer full") {
		t.Errorf("comments %q", comments)
	}

	// A capture may outlive its engine.
	if k, err = capture.Start(e, io.Discard, capture.Options{}); err != nil {
		t.Fatal(err)
	}
	if err := e.Close(); err != nil {
		t.Error(err)
	}
	if err := k.Close(); err != nil {
		t.Error(err)
	}
}

func TestCaptureNothing(t *testing.T) {
	e, err := onload.New(onload.Config{Interfaces: []string{"none"}})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	if _, err := capture.Start(e, io.Discard, capture.Options{}); err == nil || !strings.Contains(err.Error(), "no packets to see") {
		t.Error(err)
	}
}
