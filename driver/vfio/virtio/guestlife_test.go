//go:build guest

package virtio

import (
	"bufio"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/driver"
	"github.com/onload-go/onload/driver/vfio/nic/nictest"
	"github.com/onload-go/onload/ring"
)

// TestGuestMillion: frames each way, a million with -long, none lost, changed or
// overtaken.
func TestGuestMillion(t *testing.T) {
	for name, without := range map[string]uint64{"packed": 0, "split": featPacked} {
		t.Run(name, func(t *testing.T) {
			c := Config{without: without}
			nictest.Million(t, open(t, "NIC0", 1, c), open(t, "NIC1", 2, c))
		})
	}
}

func anyPort(port uint16) netip.AddrPort { return netip.AddrPortFrom(netip.Addr{}, port) }

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
			b := nictest.Frame(d.Arena().Bytes(fr)[ring.Headroom:], number, 60)
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
