package nic

import (
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	_ "github.com/onload-go/onload/internal/testlong" // go test ./... -long
)

// fake is a machine of files: paths that end in a slash are folders, values that
// begin with "->" links.
func fake(t *testing.T, files map[string]string) Machine {
	t.Helper()
	root := t.TempDir()
	for path, text := range files {
		full := filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		if target, ok := strings.CutPrefix(text, "->"); ok {
			err = os.Symlink(target, full)
		} else if strings.HasSuffix(path, "/") {
			err = os.MkdirAll(full, 0o755)
		} else {
			err = os.WriteFile(full, []byte(text), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return Machine{root}
}

// pci adds a device to the files of a machine.
func pci(files map[string]string, address, vendor, device, class, driver, group string, interfaces ...string) {
	dir := "sys/bus/pci/devices/" + address + "/"
	files[dir+"vendor"], files[dir+"device"], files[dir+"class"] = vendor+"\n", device+"\n", class+"\n"
	files[dir+"driver_override"] = "(null)\n"
	if driver != "" {
		files[dir+"driver"] = "->../../../../bus/pci/drivers/" + driver
		files["sys/bus/pci/drivers/"+driver+"/unbind"] = ""
	}
	if group != "" {
		files[dir+"iommu_group"] = "->../../../../kernel/iommu_groups/" + group
		files["sys/kernel/iommu_groups/"+group+"/devices/"+address] = "->../../../../devices/" + address
	}
	for _, name := range interfaces {
		files[dir+name+"/"] = ""
	}
}

// machine has a NIC of two functions in one group behind a bridge, a virtio NIC, a
// disk, and an interface that is on no bus.
func machine(t *testing.T) Machine {
	files := map[string]string{
		"sys/bus/pci/drivers/vfio-pci/bind": "",
		"sys/bus/pci/drivers_probe":         "",
		"sys/class/net/eth3/device/driver":  "->../../bus/vmbus/drivers/hv_netvsc",
		"sys/class/net/eth0/device/driver":  "->../../bus/pci/drivers/igb",
		"sys/class/net/lo/mtu":              "65536\n",
	}
	pci(files, "0000:00:01.0", "0x8086", "0x3420", "0x060400", "pcieport", "1")
	pci(files, "0000:01:00.0", "0x8086", "0x10c9", "0x020000", "igb", "1", "net/eth0")
	pci(files, "0000:01:00.1", "0x8086", "0x10c9", "0x020000", "igb", "1", "net/eth1")
	pci(files, "0000:02:00.0", "0x1af4", "0x1041", "0x020000", "virtio-pci", "2", "virtio0/net/eth2")
	pci(files, "0000:03:00.0", "0x1af4", "0x1042", "0x010000", "virtio-pci", "")
	pci(files, "0000:04:00.0", "0x1af4", "0x1041", "0x020000", "vfio-pci", "4")
	return fake(t, files)
}

func TestList(t *testing.T) {
	got, err := machine(t).List()
	want := []NIC{
		{"0000:01:00.0", ID{Vendor: 0x8086, Device: 0x10c9}, "igb", []string{"eth0"}, "1", []Device{{"0000:01:00.1", "igb", []string{"eth1"}}}},
		{"0000:01:00.1", ID{Vendor: 0x8086, Device: 0x10c9}, "igb", []string{"eth1"}, "1", []Device{{"0000:01:00.0", "igb", []string{"eth0"}}}},
		{"0000:02:00.0", ID{Vendor: 0x1af4, Device: 0x1041}, "virtio-pci", []string{"eth2"}, "2", nil},
		{"0000:04:00.0", ID{Vendor: 0x1af4, Device: 0x1041}, "vfio-pci", nil, "4", nil},
		{"", ID{}, "hv_netvsc", []string{"eth3"}, "", nil},
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v, want %+v", got, err, want)
	}
	if got, err := fake(t, nil).List(); err != nil || len(got) > 0 {
		t.Errorf("a machine without a bus: %v, %v", got, err)
	}
}

func TestFind(t *testing.T) {
	m := machine(t)
	for name, want := range map[string]string{"eth2": "0000:02:00.0", "0000:01:00.1": "0000:01:00.1"} {
		if n, err := m.Find(name); err != nil || n.Address != want {
			t.Errorf("%s: %+v, %v", name, n, err)
		}
	}
	for name, want := range map[string]string{
		"eth9": "no such", "0000:03:00.0": "no network controller", "eth3": "on no PCI bus", ".": "no such", "../devices": "no such",
	} {
		if n, err := m.Find(name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %+v, %v, want %q", name, n, err, want)
		}
	}
}

func TestVFIO(t *testing.T) {
	for want, n := range map[string]NIC{
		"virtio":                          {Address: "a", ID: ID{Vendor: 0x1af4, Device: 0x1041}, Group: "1"},
		"virtio, bound":                   {Address: "a", ID: ID{Vendor: 0x1af4, Device: 0x1041}, Group: "1", Driver: Driver},
		"no IOMMU":                        {Address: "a", ID: ID{Vendor: 0x1af4, Device: 0x1041}},
		"no driver of ours for 10ec:8168": {Address: "a", ID: ID{Vendor: 0x10ec, Device: 0x8168}, Group: "1"},
		"not on a PCI bus":                {},
	} {
		if got, ok := n.VFIO(); got != want || ok != strings.HasPrefix(want, "virtio") {
			t.Errorf("%+v: %q, %v", n, got, ok)
		}
	}
}

// A driver that does not take the device, as none of these does, leaves all as it was.
func TestBindFails(t *testing.T) {
	m := machine(t)
	n, err := m.Find("eth2")
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Bind(n); err == nil || !strings.Contains(err.Error(), "vfio-pci does not take it") {
		t.Error(err)
	}
	read := func(path string) string {
		b, err := os.ReadFile(m.path(path))
		if err != nil {
			t.Error(err)
		}
		return strings.TrimSpace(string(b))
	}
	if got := read(pciDevices + "/" + n.Address + "/driver_override"); got != "" {
		t.Errorf("the override is left: %q", got)
	}
	if got := read("sys/bus/pci/drivers/virtio-pci/unbind"); got != n.Address {
		t.Errorf("unbind has %q", got)
	}
	if got := read("sys/bus/pci/drivers_probe"); got != n.Address {
		t.Errorf("drivers_probe has %q", got)
	}
	if left, err := os.ReadDir(m.path(memory)); err != nil || len(left) > 0 {
		t.Errorf("remembered: %v, %v", left, err)
	}
}

func TestBindRefuses(t *testing.T) {
	m := machine(t)
	bound, err := m.Find("0000:04:00.0")
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Bind(bound); err == nil || !strings.Contains(err.Error(), "already") {
		t.Error(err)
	}
	if err := m.Bind(NIC{Address: "0000:02:00.0", Driver: "virtio-pci"}); err == nil || !strings.Contains(err.Error(), "no IOMMU group") {
		t.Error(err)
	}
	if err := m.Unbind(NIC{Address: "0000:02:00.0", Driver: "virtio-pci"}); err == nil || !strings.Contains(err.Error(), "not bound to vfio-pci") {
		t.Error(err)
	}
}

func TestSessions(t *testing.T) {
	dir := t.TempDir()
	const head = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
	for name, text := range map[string]string{
		"tcp": head +
			"   0: 0100000A:0016 0200000A:D431 01 00000000:00000000 02:0009C2EA 00000000     0        0 1\n" + // 10.0.0.2 to port 22
			"   1: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1\n" + // who listens
			"   2: 0100000A:0016 0300000A:D431 06 00000000:00000000 02:0009C2EA 00000000     0        0 1\n" + // TIME-WAIT
			"   3: 0100000A:08AE 0400000A:D431 01 00000000:00000000 02:0009C2EA 00000000     0        0 1\n" + // port 2222
			"   4: 0100000A:D431 0500000A:0016 01 00000000:00000000 02:0009C2EA 00000000     0        0 1\n" + // our own, to others
			"   5: 0100007F:0016 0100007F:D431 01 00000000:00000000 02:0009C2EA 00000000     0        0 1\n",
		"tcp6": head +
			"   0: B80D0120000000000000000001000000:0016 B80D0120000000000000000002000000:D431 01 00000000:00000000 02:0009C2EA 00000000     0        0 1\n" +
			"   1: 0000000000000000FFFF00000100000A:0016 0000000000000000FFFF00000600000A:D431 01 00000000:00000000 02:0009C2EA 00000000     0        0 1\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for connection, want := range map[string]string{
		"":                             "10.0.0.2 2001:db8::2 10.0.0.6",
		"10.0.0.4 54321 10.0.0.1 2222": "10.0.0.2 10.0.0.4 2001:db8::2 10.0.0.6",
	} {
		var peers []netip.Addr
		for _, w := range strings.Fields(want) {
			peers = append(peers, netip.MustParseAddr(w))
		}
		if got, err := sessions(dir, connection); err != nil || !slices.Equal(got, peers) {
			t.Errorf("%q: %v, %v, want %v", connection, got, err, peers)
		}
	}
}
