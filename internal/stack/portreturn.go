package stack

import (
	"sync"

	"github.com/onload-go/onload/internal/control"
)

// portReturns has the ports that go back to the kernel because their last user
// ended under the stack lock, where no system call is made.
type portReturns struct {
	mu    sync.Mutex // leaf
	ports []portReturn
	calls sync.Mutex // held during the system calls; never taken under the stack lock
}

type portReturn struct {
	port *port
	held control.Held
}

// releaseLater is release for the holder of the stack lock: another goroutine
// makes the system calls.
func (t *portTable) releaseLater(p *port) {
	h, last := t.drop(p)
	if !last {
		return
	}
	r := &t.returns
	r.mu.Lock()
	r.ports = append(r.ports, portReturn{p, h})
	first := len(r.ports) == 1
	r.mu.Unlock()
	if first {
		go t.settle()
	}
}

// settle gives back the ports of releaseLater, and waits for those that another
// goroutine is giving back. Afterwards all of them can be had again.
func (t *portTable) settle() {
	r := &t.returns
	r.calls.Lock()
	defer r.calls.Unlock()
	r.mu.Lock()
	ports := r.ports
	r.ports = nil
	r.mu.Unlock()
	for _, x := range ports {
		t.giveBack(x.port, x.held)
	}
}
