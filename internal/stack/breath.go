package stack

import (
	"fmt"
	"os"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// breath lets everything else in the process run while a goroutine spins.
//
// With several Ps it is goyield for the most part: where one of them is idle, a
// Gosched costs 10 us of processor time. Its times lie further and further
// apart, so that goroutines on the queue of all Ps wait as long again as the
// spin has lasted, and breathRound at most. Most of them do not: a thread was
// woken for them when they came there.
//
// With one P the runtime finds the spinner ready again before it asks its
// netpoller, and what the kernel carries (sockets, pipes) would wait for 10 ms:
// so the spinner goes through the netpoller itself, by a descriptor that it has
// just made ready.
type breath struct {
	file *os.File // an eventfd
	conn syscall.RawConn
	turn func(uintptr) bool
	out  bool // the write is done: the next call of turn ends the wait

	began int64 // of the spin, ns
	round int64 // when Gosched is due
}

// breathRound is the longest time between two Gosched of a spin, ns.
const breathRound = int64(160_000)

func (b *breath) init() error {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return fmt.Errorf("eventfd: %w", err)
	}
	b.file = os.NewFile(uintptr(fd), "onload-breath")
	if b.conn, err = b.file.SyscallConn(); err != nil {
		b.file.Close()
		return err
	}
	one := [8]byte{1}
	b.turn = func(fd uintptr) bool {
		if b.out {
			b.out = false
			return true
		}
		_, err := unix.Write(int(fd), one[:])
		b.out = err == nil
		return err != nil
	}
	return nil
}

// first is the breath at the beginning of a spin, at now. The goroutine that will
// send the answer is most likely on this P's queue. Those that run there may make
// others ready on the queue of all Ps: more reports whether to take a breath at
// once, if others ran.
func (b *breath) first(now int64) (more bool) {
	b.began, b.round = now, 0
	if runtime.GOMAXPROCS(0) == 1 {
		runtime.Gosched()
		return false
	}
	goyield()
	return true
}

// take lets others run during a spin, at now. The caller leads.
func (b *breath) take(now int64) {
	if runtime.GOMAXPROCS(0) == 1 && b.conn.Read(b.turn) == nil {
		return
	}
	if now < b.round {
		goyield()
		return
	}
	b.round = now + min(now-b.began, breathRound)
	runtime.Gosched()
}

func (b *breath) close() { b.file.Close() }
