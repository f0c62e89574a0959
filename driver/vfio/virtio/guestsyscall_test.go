//go:build guest

package virtio

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/driver/vfio/nic/nictest"
	"github.com/onload-go/onload/ring"
)

const quietEnv = "ONLOAD_TEST_VIRTIO_QUIET"

// TestGuestNoSystemCalls: round trips of one byte, polled and transmitted, on a thread
// that the kernel kills at the first system call.
func TestGuestNoSystemCalls(t *testing.T) {
	c := exec.Command("/proc/self/exe", "-test.run=^TestGuestQuietChild$", "-test.v")
	c.Env = append(os.Environ(), quietEnv+"=1")
	out, err := c.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Logf("%s", out)
	c = exec.Command("/proc/self/exe", "-test.run=^TestGuestQuietChild$")
	c.Env = append(os.Environ(), quietEnv+"=arm")
	if out, err := c.CombinedOutput(); err == nil {
		t.Errorf("Arm, which reads a descriptor, was not noticed:\n%s", out)
	}
}

// TestGuestQuietChild is the process of TestGuestNoSystemCalls.
func TestGuestQuietChild(t *testing.T) {
	mode := os.Getenv(quietEnv)
	if mode == "" {
		t.Skip("run by TestGuestNoSystemCalls")
	}
	const rounds = 1000
	a, b := open(t, "NIC0", 1, Config{TakeAll: true, Frames: 1024}).Device.(*Device), open(t, "NIC1", 2, Config{TakeAll: true, Frames: 1024}).Device.(*Device)
	var trips atomic.Int32
	go func() {
		runtime.LockOSThread()
		a.queues[0].Refill()
		b.queues[0].Refill()
		ds := make([]ring.Desc, 8)
		trip(a, b, ds)
		trip(b, a, ds)
		if err := forbid(); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		for trips.Load() < rounds {
			trip(a, b, ds)
			trip(b, a, ds)
			if mode == "arm" {
				b.queues[0].Arm()
			}
			trips.Add(1)
		}
		for { // the thread cannot even end
			runtime.Gosched()
		}
	}()
	for start := time.Now(); trips.Load() < rounds; time.Sleep(time.Millisecond) {
		if time.Since(start) > time.Minute {
			t.Fatalf("%d round trips", trips.Load())
		}
	}
	fmt.Printf("%d round trips; the devices were notified %d and %d times\n", rounds, a.queues[0].tx.where().rings, b.queues[0].tx.where().rings)
	os.Exit(0)
}

// trip sends a datagram of one byte, and waits for it.
func trip(from, to *Device, ds []ring.Desc) {
	x, y := from.queues[0], to.queues[0]
	f, _ := from.arena.Alloc()
	b := nictest.Frame(from.arena.Bytes(f)[ring.Headroom:], 0, 60)
	x.TxBatch([]ring.Desc{{Frame: f, Off: ring.Headroom, Len: uint16(len(b))}})
	from.arena.Release(f)
	if err := x.Kick(); err != nil {
		panic(err)
	}
	for n := 0; n == 0; {
		n = y.RxBatch(ds)
		for _, d := range ds[:n] {
			to.arena.Free(d.Frame)
		}
	}
	y.Refill()
	x.Reclaim()
}

// forbid has the kernel kill the process when this thread makes a system call other
// than those by which Go's scheduler passes the processor on.
func forbid() error {
	allowed := []uint32{unix.SYS_FUTEX, unix.SYS_RT_SIGRETURN, unix.SYS_SCHED_YIELD, unix.SYS_NANOSLEEP,
		unix.SYS_TGKILL, unix.SYS_GETPID, unix.SYS_RT_SIGPROCMASK, unix.SYS_MADVISE}
	prog := []unix.SockFilter{{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 0}} // seccomp_data.nr
	for i, nr := range allowed {
		prog = append(prog, unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: nr, Jt: uint8(len(allowed) - i)})
	}
	prog = append(prog,
		unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_KILL_PROCESS},
		unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW})
	f := unix.SockFprog{Len: uint16(len(prog)), Filter: &prog[0]}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	return unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&f)), 0, 0)
}
