package vmrun

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
)

const qemuBinary = "qemu-system-x86_64"

// qemuMajor is the release of the QEMU that is installed.
func qemuMajor() (int, error) {
	out, err := exec.Command(qemuBinary, "--version").Output()
	if err != nil {
		return 0, err
	}
	var major int
	_, v, _ := strings.Cut(string(out), "version ")
	if _, err := fmt.Sscanf(v, "%d.", &major); err != nil {
		return 0, fmt.Errorf("%s --version says %q", qemuBinary, out)
	}
	return major, nil
}

// Descriptors of QEMU's process.
const (
	fdLog    = 3 + iota // the kernel's log
	fdStdout            // fdStdout to fdStatus: the ports
	fdStderr
	fdStatus
	fdImage // the initramfs
	fdTAP   // one for each queue of each NIC
)

// arguments are QEMU's, for a kernel and a release.
func (g Guest) arguments(nics []nic, kernel string, release int) ([]string, error) {
	cpu := "max"
	if release < 8 {
		// QEMU 7.2 corrupts flags when an interrupt follows cmpxchg16b, and the
		// kernel's slab allocator, its one user, then panics.
		cpu = "max,-cx16"
	}
	accel := "tcg"
	if g.CPUs > 1 {
		accel = "tcg,thread=multi"
	}
	memory := 512
	if g.Memory > 0 {
		memory = g.Memory
	}
	args := []string{
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		"-M", "q35,sata=off,smbus=off,vmport=off,hpet=off", "-accel", accel, "-cpu", cpu,
		"-m", strconv.Itoa(memory), "-smp", strconv.Itoa(max(1, g.CPUs)),
	}
	line := []string{
		"console=ttyS0", "8250.nr_uarts=1", "loglevel=5", // warnings and worse
		"panic=-1", "oops=panic", // -no-reboot ends QEMU
		"mitigations=off", "nokaslr", "tsc=reliable", "no_timer_check", "nowatchdog",
		"init_on_alloc=0", "random.trust_cpu=on", "cryptomgr.notests", "audit=0", "lsm=",
		"rcupdate.rcu_expedited=1", "rcupdate.rcu_cpu_stall_suppress=1",
		"iommu=pt", // only what VFIO has is translated
	}
	if !slices.Contains(g.QEMU, "-icount") { // which has a counter of its own
		line = append(line, fmt.Sprintf("tsc_early_khz=%d", tscKHz()))
	}
	switch g.iommu() {
	case "intel": // before the NICs
		iommu := "intel-iommu,intremap=on,aw-bits=48"
		if release >= 9 && g.CPUs > 1 {
			// The kernel talks to the interrupt controllers by MSRs then (x2APIC). By
			// memory QEMU 10 lost the end of an interrupt now and then, or aborted
			// (iotlb_to_section), while a NIC that is opened changed the map of the
			// memory; a guest that has lost one stands still.
			iommu += ",eim=on"
		}
		args = append(args, "-device", iommu)
		line = append(line, "intel_iommu=on")
	case "virtio":
		args = append(args, "-device", "virtio-iommu-pci,addr=0x1")
	case "none":
	default:
		return nil, fmt.Errorf("IOMMU %q is not intel, virtio or none", g.IOMMU)
	}
	monitor := fmt.Sprintf("onload-vmrun-%d", os.Getpid())
	args = append(args,
		"-kernel", kernel, "-initrd", fmt.Sprintf("/dev/fd/%d", fdImage),
		"-append", strings.Join(append(line, g.Kernel...), " "),
		"-chardev", fmt.Sprintf("file,id=log,path=/dev/fd/%d", fdLog), "-serial", "chardev:log",
		"-device", "virtio-serial-pci,addr=0x2,max_ports=5",
		// The guest's port is one end of a socket, QEMU's monitor the other.
		"-chardev", "socket,id=monitor,abstract=on,server=on,wait=off,path="+monitor,
		"-chardev", "socket,id=qmp,abstract=on,path="+monitor,
		"-mon", "chardev=qmp,mode=control",
		"-device", "virtserialport,chardev=monitor,name=vmrun.monitor",
	)
	for i, port := range []string{"stdout", "stderr", "status"} {
		args = append(args, "-chardev", fmt.Sprintf("file,id=%s,path=/dev/fd/%d", port, fdStdout+i),
			"-device", fmt.Sprintf("virtserialport,chardev=%s,name=vmrun.%s", port, port))
	}
	for i, n := range nics {
		netdev := fmt.Sprintf("hubport,id=net%d,hubid=%d", i, n.hub)
		if g.TAP {
			queues := max(1, g.Queues)
			fds := make([]string, queues)
			for k := range fds {
				fds[k] = strconv.Itoa(fdTAP + i*queues + k)
			}
			netdev = fmt.Sprintf("tap,id=net%d,fds=%s", i, strings.Join(fds, ":"))
		}
		args = append(args, "-netdev", netdev)
		at := "addr=" + n.Slot[len("0000:00:"):]
		if n.Port {
			// A bus of its own, as a real NIC has: virtio gets its PCIe capabilities
			// and its reset by that.
			args = append(args, "-device", fmt.Sprintf("pcie-root-port,id=port%d,chassis=%d,%s", i, i+1, at))
			at = fmt.Sprintf("bus=port%d", i)
		}
		dev := fmt.Sprintf("%s,id=nic%d,netdev=net%d,mac=%s,%s,romfile=", n.Model, i, i, n.MAC, at)
		if n.properties != "" {
			dev += "," + n.properties
		}
		args = append(args, "-device", dev)
	}
	return append(args, g.QEMU...), nil
}
