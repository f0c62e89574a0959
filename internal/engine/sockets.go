package engine

import (
	"maps"
	"slices"
	"sync"
)

// sockets lists the clients' sockets that also own a kernel socket. Engine.Close
// closes those too; otherwise the kernel would keep accepting clients that
// nobody serves.
type sockets struct {
	mu     sync.Mutex
	closed bool
	m      map[any]func() error
}

// Track has Close call the function, which closes all parts of a socket, unless
// Untrack comes first. It returns false if the engine has been closed already; then
// the caller closes the socket.
func (e *Engine) Track(socket any, shut func() error) bool {
	o := &e.sockets
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.m == nil {
		o.m = map[any]func() error{}
	}
	o.m[socket] = shut
	return !o.closed
}

// Untrack is for a socket that has been closed.
func (e *Engine) Untrack(socket any) {
	o := &e.sockets
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.m, socket)
}

func (o *sockets) close() {
	o.mu.Lock()
	o.closed = true
	all := slices.Collect(maps.Values(o.m))
	o.mu.Unlock()
	for _, shut := range all {
		_ = shut()
	}
}
