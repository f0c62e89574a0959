//go:build guest

package virtio

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/driver"
	"github.com/onload-go/onload/internal/testlong"
	"github.com/onload-go/onload/ring"
)

// frame is a UDP datagram with a number, whose payload follows from it.
func frame(b []byte, number uint64, size int) []byte {
	b = b[:size]
	clear(b[:42])
	b[0], b[5], b[6], b[11] = 2, 2, 2, 1 // a bridge between the NICs wants a source
	b[12], b[14], b[22], b[23] = 0x08, 0x45, 64, 17
	be := binary.BigEndian
	be.PutUint16(b[16:], uint16(size-14))
	copy(b[26:], []byte{10, 9, 0, 1, 10, 9, 0, 2})
	sum := uint32(0)
	for i := 14; i < 34; i += 2 {
		sum += uint32(be.Uint16(b[i:]))
	}
	be.PutUint16(b[24:], ^uint16(sum+sum>>16))
	be.PutUint16(b[34:], 9)
	be.PutUint16(b[36:], 7)
	be.PutUint16(b[38:], uint16(size-34))
	be.PutUint64(b[42:], number)
	for i := 50; i < size; i++ {
		b[i] = byte(number) + byte(i)
	}
	return b
}

// sizeOf is the size of a numbered frame: each of 60 to 1514 comes.
func sizeOf(number uint64) int { return 60 + int(number*131)%1455 }

// flow sends numbered frames over a queue and checks those that come over
// another.
type flow struct {
	from, to       driver.Queue
	out, in        *ring.Arena
	sent, received uint64
	want           []byte // scratch
}

// step sends some of count frames and receives some. Never more are on the way than the receiver's ring
// holds: a virtio device without room drops.
func (f *flow) step(t *testing.T, count uint64, ds []ring.Desc) {
	for f.sent < count && f.sent-f.received < 64 && f.from.TxSpace() > 0 {
		fr, ok := f.out.Alloc()
		if !ok {
			break
		}
		b := frame(f.out.Bytes(fr)[ring.Headroom:], f.sent, sizeOf(f.sent))
		if f.from.TxBatch([]ring.Desc{{Frame: fr, Off: ring.Headroom, Len: uint16(len(b))}}) != 1 {
			t.Fatal("a ring with space takes nothing")
		}
		f.out.Release(fr)
		f.sent++
	}
	if err := f.from.Kick(); err != nil {
		t.Fatal(err)
	}
	f.from.Reclaim()
	for _, d := range ds[:f.to.RxBatch(ds)] {
		b := f.in.Data(d)
		if want := frame(f.want, f.received, sizeOf(f.received)); string(b) != string(want) {
			t.Fatalf("frame %d of %d bytes came otherwise, as %d bytes", f.received, len(want), len(b))
		}
		f.received++
		f.in.Free(d.Frame)
	}
	f.to.Refill()
}

// TestGuestMillion: frames each way, a million with -long, none lost, changed or
// overtaken.
func TestGuestMillion(t *testing.T) {
	a, b := open(t, "NIC0", 1, Config{}).Device, open(t, "NIC1", 2, Config{}).Device
	count := testlong.Pick[uint64](30_000, 1_000_000)
	x, y := a.Queues()[0], b.Queues()[0]
	for _, d := range []driver.Device{a, b} {
		if err := d.AddPort(17, anyPort(7)); err != nil {
			t.Fatal(err)
		}
		d.Queues()[0].Refill()
	}
	flows := []*flow{
		{from: x, to: y, out: a.Arena(), in: b.Arena(), want: make([]byte, 2048)},
		{from: y, to: x, out: b.Arena(), in: a.Arena(), want: make([]byte, 2048)},
	}
	ds := make([]ring.Desc, 64)
	last, since := uint64(0), time.Now()
	for done := uint64(0); done < 2*count; done = flows[0].received + flows[1].received {
		for _, f := range flows {
			f.step(t, count, ds)
		}
		if done != last {
			last, since = done, time.Now()
		} else if time.Since(since) > time.Minute {
			t.Fatalf("nothing comes after %d and %d frames", flows[0].received, flows[1].received)
		}
		if done%64 == 0 {
			runtime.Gosched()
		}
	}
	t.Logf("%+v", x.Stats())
}

const childEnv = "ONLOAD_TEST_VIRTIO_CHILD"

// TestMain is also the process that is to be killed, or has no privilege: it sends
// frames to the other device until it ends.
func TestMain(m *testing.M) {
	address := os.Getenv(childEnv)
	if address == "" {
		os.Exit(m.Run())
	}
	d, err := Open(Config{Address: address, Frames: 512})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	q := d.Queues()[0]
	q.Refill()
	fmt.Println("open")
	for number := uint64(0); ; {
		if fr, ok := d.Arena().Alloc(); ok && q.TxSpace() > 0 {
			b := frame(d.Arena().Bytes(fr)[ring.Headroom:], number, 60)
			q.TxBatch([]ring.Desc{{Frame: fr, Off: ring.Headroom, Len: uint16(len(b))}})
			d.Arena().Release(fr)
			number++
		} else if ok {
			d.Arena().Free(fr)
		}
		if err := q.Kick(); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		q.Reclaim()
	}
}

// child starts a process that sends over NIC0, and waits until it does.
func child(t *testing.T, attr *syscall.SysProcAttr) *exec.Cmd {
	t.Helper()
	c := exec.Command("/proc/self/exe")
	c.Env = append(os.Environ(), childEnv+"="+os.Getenv("VMRUN_NIC0_PCI"))
	c.SysProcAttr = attr
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.Process.Kill() // it may have ended
		_ = c.Wait()         // killed
	})
	if line, _ := bufio.NewReader(out).ReadString('\n'); line != "open\n" {
		t.Fatalf("the child says %q", line)
	}
	return c
}

// hear waits until more frames of the child come than both rings hold.
func hear(t *testing.T, d driver.Device) {
	t.Helper()
	if err := d.AddPort(17, anyPort(7)); err != nil {
		t.Fatal(err)
	}
	q, ds, n := d.Queues()[0], make([]ring.Desc, 64), 0
	for last := time.Now(); n < 1000; {
		q.Refill()
		k := q.RxBatch(ds)
		for _, r := range ds[:k] {
			d.Arena().Free(r.Frame)
		}
		if n += k; k > 0 {
			last = time.Now()
		} else if time.Since(last) > time.Minute {
			t.Fatalf("nothing comes behind %d frames of the child", n)
		}
		runtime.Gosched()
	}
}

// TestGuestKilled: a process that is killed while it sends leaves the device to
// the next one.
func TestGuestKilled(t *testing.T) {
	b := open(t, "NIC1", 2, Config{}).Device
	for range 3 {
		c := child(t, nil)
		hear(t, b)
		if err := c.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = c.Wait() // killed
		if err := b.RemovePort(17, anyPort(7)); err != nil {
			t.Fatal(err)
		}
	}
	again := open(t, "NIC0", 1, Config{})
	if err := again.Queues()[0].Err(); err != nil {
		t.Fatal(err)
	}
}

// TestGuestNobody: a process that owns the group's file, and may lock enough
// memory, needs no privilege.
func TestGuestNobody(t *testing.T) {
	group, err := os.Readlink("/sys/bus/pci/devices/" + os.Getenv("VMRUN_NIC0_PCI") + "/iommu_group")
	if err != nil {
		t.Fatal(err)
	}
	file := "/dev/vfio/" + filepath.Base(group)
	const nobody = 65534
	if err := errors.Join(os.Chown(file, nobody, nobody), os.Chmod("/dev/vfio/vfio", 0o666)); err != nil {
		t.Fatal(err)
	}
	defer os.Chown(file, 0, 0)
	var old unix.Rlimit
	enough := unix.Rlimit{Cur: 4 << 20, Max: 4 << 20}
	if err := errors.Join(unix.Getrlimit(unix.RLIMIT_MEMLOCK, &old), unix.Setrlimit(unix.RLIMIT_MEMLOCK, &enough)); err != nil {
		t.Fatal(err)
	}
	defer unix.Setrlimit(unix.RLIMIT_MEMLOCK, &old)
	b := open(t, "NIC1", 2, Config{}).Device
	child(t, &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}})
	hear(t, b)
}
