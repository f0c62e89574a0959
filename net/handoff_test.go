package onload_test

import (
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/onload-go/onload/internal/lab"
	onload "github.com/onload-go/onload/net"
)

// TestHandoff: sockets of each kind pass by a Unix socket, with name and data, and serve
// there. What the other end does not take stays.
func TestHandoff(t *testing.T) {
	p := lab.NewPair(t, lab.Options{})
	e := vethEngine(t, p.A, onload.Config{})
	ln, err := e.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	u, err := e.ListenPacket("udp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	at := net.JoinHostPort(p.A.Addr4.String(), portOf(ln))
	local := dialFrom(t, p.A, net.JoinHostPort("127.0.0.1", portOf(ln)))
	server := acceptOf(t, ln, local)
	sockets := []onload.Passed{
		{Name: "web", Socket: ln}, {Name: "dns", Socket: u, Data: []byte("port 53")}, {Name: "client", Socket: server},
	}

	from, to := lab.UnixPair(t)
	to.Close()
	if err := onload.Handoff(from, sockets); err == nil {
		t.Fatal("the other end is closed, and there is no error")
	}
	acceptOf(t, ln, dialFrom(t, p.B, at))
	speak(t, server, local)

	from, to = lab.UnixPair(t)
	handed := make(chan error, 1)
	go func() { handed <- onload.Handoff(from, sockets); from.Close() }()
	next := vethEngine(t, p.A, onload.Config{Fallback: true})
	got, err := next.Takeover(to)
	if err != nil {
		t.Fatal(err)
	}
	if err := <-handed; err != nil {
		t.Fatal(err)
	}
	if len(got) != len(sockets) {
		t.Fatalf("%d sockets came", len(got))
	}
	for i := range got {
		defer got[i].Socket.(io.Closer).Close()
		if got[i].Name != sockets[i].Name || string(got[i].Data) != string(sockets[i].Data) {
			t.Errorf("%q %q came, want %q %q", got[i].Name, got[i].Data, sockets[i].Name, sockets[i].Data)
		}
	}
	acceptOf(t, got[0].Socket.(net.Listener), dialFrom(t, p.B, at))
	asker, err := p.B.Dial("udp", at)
	if err != nil {
		t.Fatal(err)
	}
	defer asker.Close()
	if _, err := asker.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if s := readOne(t, got[1].Socket.(net.PacketConn)); s != "x" {
		t.Errorf("read %q", s)
	}
	speak(t, got[2].Socket.(net.Conn), local)
	if _, err := next.Takeover(to); err != io.EOF {
		t.Errorf("after the last: %v", err)
	}
}

// TestTakeoverRefuses: what is no handoff is an error, and the other end hears of it.
func TestTakeoverRefuses(t *testing.T) {
	e, err := onload.New(onload.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	head := func(version, kind byte, name, data uint32) string {
		return "ONLH" + string([]byte{version, kind, 0, 0, byte(name >> 24), byte(name >> 16), byte(name >> 8), byte(name),
			byte(data >> 24), byte(data >> 16), byte(data >> 8), byte(data)})
	}
	for name, said := range map[string]string{
		"cut short":          "ONLH",
		"of another kind":    "GET / HTTP/1.1\r\n\r\n",
		"of another version": head(2, 4, 0, 0),
		"without descriptor": head(1, 1, 0, 0),
		"of no kind":         head(1, 7, 0, 0),
		"an answer":          head(1, 5, 0, 0),
		"a refusal":          head(1, 6, 3, 0) + "why",
		"too long":           head(1, 4, 1<<31, 0),
		"without its name":   head(1, 4, 5, 0) + "xy",
	} {
		t.Run(name, func(t *testing.T) {
			from, to := lab.UnixPair(t)
			if _, err := from.Write([]byte(said)); err != nil {
				t.Fatal(err)
			}
			if err := from.CloseWrite(); err != nil {
				t.Fatal(err)
			}
			if got, err := e.Takeover(to); err == nil || err == io.EOF || got != nil {
				t.Errorf("%v, %v", got, err)
			}
			to.Close()
			// An error may follow: ECONNRESET where it has not read all that was said.
			if answer, _ := io.ReadAll(from); len(answer) < 5 || string(answer[:4]) != "ONLH" {
				t.Errorf("the answer: %q", answer)
			}
		})
	}
}

// pipeListener passes for a listener until somebody looks at its descriptor.
type pipeListener struct{ net.Listener }

func (pipeListener) File() (*os.File, error) {
	r, w, err := os.Pipe()
	if err == nil {
		err = w.Close()
	}
	return r, err
}

// TestHandoffAgain: after a Handoff that one of the two ends refuses, the next one on the
// same Unix socket passes its own sockets, and no others. The path of a listener stays.
func TestHandoffAgain(t *testing.T) {
	e, err := onload.New(onload.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	at := filepath.Join(t.TempDir(), "web")
	ln, err := net.Listen("unix", at)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	web := onload.Passed{Name: "web", Socket: ln}
	from, to := lab.UnixPair(t)
	for _, c := range []*net.UnixConn{from, to} {
		if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
	}
	pass := func(sockets ...onload.Passed) ([]onload.Passed, error, error) {
		handed := make(chan error, 1)
		go func() { handed <- onload.Handoff(from, sockets) }()
		got, err := e.Takeover(to)
		return got, <-handed, err
	}
	bad := onload.Passed{Name: "pipe", Socket: pipeListener{ln}}
	if got, herr, terr := pass(bad, web, web); got != nil || herr == nil || terr == nil {
		t.Errorf("the successor cannot have the first: %v, %v, %v", got, herr, terr)
	}
	none := onload.Passed{Name: "none", Socket: struct{ net.Listener }{ln}}
	if got, herr, terr := pass(web, none); got != nil || !errors.Is(herr, errors.ErrUnsupported) || terr == nil {
		t.Errorf("the second has no File: %v, %v, %v", got, herr, terr)
	}
	got, herr, terr := pass(web)
	if len(got) != 1 || herr != nil || terr != nil {
		t.Fatalf("%v, %v, %v", got, herr, terr)
	}
	next := got[0].Socket.(net.Listener)
	defer next.Close()
	c, err := net.Dial("unix", at)
	if err != nil {
		t.Fatal("the successor's path: ", err)
	}
	defer c.Close()
	s, err := next.Accept()
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
}
