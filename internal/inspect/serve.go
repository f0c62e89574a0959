package inspect

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/onload-go/onload/internal/outside"
)

// Request is a question of a peer.
type Request struct {
	Peer  Peer
	Files []*os.File // that came with it; closed when the function has returned
	args  raw
	c     *Conn
}

// Decode reads the arguments into v, a pointer to a struct. Others than v's fields are an
// error.
func (r *Request) Decode(v any) error {
	if len(r.args) == 0 {
		return nil
	}
	return strict(r.args, v)
}

// writeWait is how long a peer may leave a line unread.
const writeWait = time.Minute

// Send answers with v as JSON, and with descriptors. It may be called often. It blocks
// while the peer does not read: no lock is to be held. The error is the connection's: the
// peer is gone.
func (r *Request) Send(v any, files ...*os.File) error {
	var line struct {
		Data any `json:"data"`
	}
	line.Data = v
	if err := r.c.f.SetWriteDeadline(time.Now().Add(writeWait)); err != nil {
		return err
	}
	return r.c.WriteLine(&line, files...)
}

// Wait returns when the peer has closed the connection or sent something, or when the
// process has closed its last engine.
func (r *Request) Wait() { _, files, _ := r.c.receive(make([]byte, 1)); closeAll(files) }

var kinds struct {
	sync.RWMutex
	m map[string]func(*Request) error
}

// Handle has requests of a kind answered by fn, on a goroutine of its own each. Its error
// is told to the peer. It is called by init functions.
func Handle(kind string, fn func(*Request) error) {
	kinds.Lock()
	defer kinds.Unlock()
	if kinds.m == nil {
		kinds.m = map[string]func(*Request) error{}
	}
	if kinds.m[kind] != nil {
		panic("inspect: two functions for requests of kind " + kind)
	}
	kinds.m[kind] = fn
}

func handler(kind string) func(*Request) error {
	kinds.RLock()
	defer kinds.RUnlock()
	return kinds.m[kind]
}

// server is the process's socket.
type server struct {
	f    *os.File
	path string
	uid  int

	mu    sync.Mutex
	conns map[*os.File]bool // of requests; nil: closed
	wait  sync.WaitGroup
}

var process struct {
	sync.Mutex
	users  int
	server *server
}

// Open makes the process's socket, unless it is there, and keeps it until as many calls of
// Close. The error says why there is none: Close has to be called all the same.
func Open() error {
	p := &process
	p.Lock()
	defer p.Unlock()
	if p.users++; p.server != nil {
		return nil
	}
	uid := os.Geteuid()
	s, err := open(Folders(uid, os.Getenv("XDG_RUNTIME_DIR")), uid)
	p.server = s
	return err
}

// Close takes one Open back. The last one removes the socket, ends the requests and waits
// for their functions.
func Close() {
	p := &process
	p.Lock()
	defer p.Unlock()
	if p.users--; p.users > 0 || p.server == nil {
		return
	}
	p.server.close()
	p.server = nil
}

func open(folders []string, uid int) (*server, error) {
	f, path, err := listen(folders, uid)
	if err != nil {
		return nil, err
	}
	s := &server{f: f, path: path, uid: uid, conns: map[*os.File]bool{}}
	s.wait.Add(1)
	outside.Go(s.serve)
	return s, nil
}

func (s *server) close() {
	_ = os.Remove(s.path)
	s.mu.Lock()
	for c := range s.conns {
		_ = c.Close()
	}
	s.conns = nil
	s.mu.Unlock()
	_ = s.f.Close()
	s.wait.Wait()
}

// mostConns bounds the requests that are answered at once.
const mostConns = 32

// shortly is how long serve waits when the process is short of descriptors.
const shortly = 100 * time.Millisecond

func (s *server) serve() {
	defer s.wait.Done()
	for {
		f, err := accept(s.f)
		switch {
		case s.closed():
			if err == nil {
				_ = f.Close()
			}
			return
		case err != nil:
			time.Sleep(shortly)
			continue
		}
		if !s.enter(f) {
			_ = f.Close()
			continue
		}
		go func() {
			defer s.leave(f)
			answer(f, s.uid)
		}()
	}
}

func (s *server) closed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.conns == nil
}

// enter notes a connection, and reports whether it may be served.
func (s *server) enter(f *os.File) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conns == nil || len(s.conns) >= mostConns {
		return false
	}
	s.conns[f] = true
	s.wait.Add(1)
	return true
}

func (s *server) leave(f *os.File) {
	s.mu.Lock()
	delete(s.conns, f)
	s.mu.Unlock()
	_ = f.Close()
	s.wait.Done()
}

// requestWait is how long a peer may take to ask.
const requestWait = 10 * time.Second

// answer serves one connection.
func answer(f *os.File, uid int) {
	peer, err := peerOf(f)
	c := &Conn{f: f, most: mostRequest}
	if err == nil && peer.UID != 0 && peer.UID != uid {
		err = fmt.Errorf("user %d may not ask: only root and user %d may", peer.UID, uid)
	}
	if err == nil {
		err = f.SetReadDeadline(time.Now().Add(requestWait))
	}
	if err == nil {
		err = ask(c, peer)
	}
	end := Line{End: true}
	if err != nil {
		end = Line{Error: err.Error()}
	}
	_ = f.SetWriteDeadline(time.Now().Add(writeWait))
	_ = c.WriteLine(&end)
}

func ask(c *Conn, peer Peer) (err error) {
	line, files, err := c.ReadLine()
	defer closeAll(files)
	if err != nil {
		return err
	}
	var e envelope
	if err := strict(line, &e); err != nil {
		return fmt.Errorf("request: %w", err)
	}
	switch {
	case e.Version != Version:
		return fmt.Errorf("version %d of the protocol is asked for, this program speaks version %d: use the program onload of its version", e.Version, Version)
	case len(c.ahead) > 0:
		return errors.New("there is more than one request")
	}
	fn := handler(e.Kind)
	if fn == nil {
		return fmt.Errorf("this program does not know requests of kind %q", e.Kind)
	}
	if err := c.f.SetReadDeadline(time.Time{}); err != nil {
		return err
	}
	// An inspection never ends the program.
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("a fault of the program: %v", p)
		}
	}()
	return fn(&Request{Peer: peer, Files: files, args: e.Args, c: c})
}
