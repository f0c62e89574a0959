package affinity

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	_ "github.com/onload-go/onload/internal/testlong" // go test ./... -long
)

func TestParseCPUs(t *testing.T) {
	for in, want := range map[string]CPUs{
		"": nil, "\n": nil, "0\n": {0}, "0-3": {0, 1, 2, 3}, "1,3-4,8191": {1, 3, 4, 8191}, "3,1,1-2": {1, 2, 3},
	} {
		if got, err := ParseCPUs(in); err != nil || !slices.Equal(got, want) {
			t.Errorf("%q: %v, %v", in, got, err)
		}
	}
	for _, in := range []string{"a", "1-", "-1", "3-1", "8192", "0-8192", "1,,2", "1 2", "0x1", "4294967297"} {
		if got, err := ParseCPUs(in); err == nil {
			t.Errorf("%q: %v", in, got)
		}
	}
	for in, want := range map[string]string{"": "", "5": "5", "0,1": "0-1", "0-3,5,7-8": "0-3,5,7-8"} {
		l, _ := ParseCPUs(in)
		if l.String() != want {
			t.Errorf("%q becomes %q", in, l)
		}
	}
}

// A written list reads as the same list.
func FuzzParseCPUs(f *testing.F) {
	for _, s := range []string{"", "0-3,8", "8191", "1-", "0-99999999999"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		l, err := ParseCPUs(s)
		if err != nil {
			return
		}
		if !slices.IsSorted(l) || len(l) > maxCPU {
			t.Fatalf("%q: %v", s, l)
		}
		again, err := ParseCPUs(l.String())
		if err != nil || !slices.Equal(l, again) {
			t.Fatalf("%q: %v, then %v (%v)", s, l, again, err)
		}
	})
}

const interrupts = `            CPU0       CPU1
   1:          0          9  IR-IO-APIC    1-edge      i8042
  30:          0          0  PCI-MSIX-0000:81:00.0   0-edge      ice-eth0-misc
  31:         12          0  PCI-MSIX-0000:81:00.0   1-edge      ice-eth0-TxRx-0
  32:          0         77  PCI-MSIX-0000:81:00.0   2-edge      ice-eth0-TxRx-1
  38:          0       9615 PCI-MSIX-0000:00:03.0   1-edge      virtio2-input.0
  39:       8280          0 PCI-MSIX-0000:00:03.0   2-edge      virtio2-output.0
  50:          0          0 PCI-MSIX mlx5_comp12@pci:0000:82:00.0
  51:          0          0 PCI-MSIX mlx5_async0@pci:0000:82:00.0
  52:          0          0 ITS-MSI 1 Edge eth1-Tx-Rx-3
  53:
NMI:          0          0   Non-maskable interrupts
ERR:          0
`

func TestParseInterrupts(t *testing.T) {
	got := map[int]int{}
	names := map[int]string{}
	for _, i := range ParseInterrupts(interrupts) {
		names[i.IRQ] = i.Name
		if q, ok := i.queue(); ok {
			got[i.IRQ] = q
		}
	}
	if want := map[int]int{31: 0, 32: 1, 38: 0, 50: 12, 52: 3}; !reflect.DeepEqual(got, want) {
		t.Errorf("queues %v, want %v", got, want)
	}
	if len(names) != 9 || names[1] != "i8042" || names[30] != "ice-eth0-misc" {
		t.Errorf("names %v", names)
	}
}

func FuzzParseInterrupts(f *testing.F) {
	f.Add(interrupts)
	f.Add("1:\n2: x\n:\n99999999999: a rx0\n3: rx-70000\n4: @\n")
	f.Fuzz(func(t *testing.T, s string) {
		for _, i := range ParseInterrupts(s) {
			if i.IRQ < 0 || i.Name == "" || strings.ContainsAny(i.Name, " \t\n") {
				t.Fatalf("%+v", i)
			}
			if q, ok := i.queue(); ok && (q < 0 || q > 65535) {
				t.Fatalf("queue %d of %q", q, i.Name)
			}
		}
	})
}

// machine lays out a file system of proc and sys.
func machine(t *testing.T, files map[string]string, links map[string]string) (root string) {
	t.Helper()
	root = t.TempDir()
	for name, text := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, to := range links {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(to, path); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestRead(t *testing.T) {
	root := machine(t, map[string]string{
		"proc/interrupts":                         interrupts,
		"proc/irq/31/smp_affinity_list":           "0-1\n",
		"proc/irq/31/effective_affinity_list":     "1\n",
		"proc/irq/32/smp_affinity_list":           "0-1\n",
		"proc/irq/32/effective_affinity_list":     "\n",
		"proc/irq/38/effective_affinity_list":     "0\n",
		"proc/irq/77/effective_affinity_list":     "3\n",
		"sys/devices/system/cpu/online":           "0-3\n",
		"sys/devices/system/node/node0/cpulist":   "0-1\n",
		"sys/devices/system/node/node1/cpulist":   "2-3\n",
		"sys/devices/pci0/81:00.0/numa_node":      "1\n",
		"sys/devices/pci0/81:00.0/msi_irqs/31":    "msix\n",
		"sys/devices/pci0/81:00.0/msi_irqs/32":    "msix\n",
		"sys/devices/pci0/03.0/msi_irqs/38":       "msix\n",
		"sys/devices/pci0/03.0/virtio2/numa_node": "-1\n",
		"sys/class/net/veth0/ifindex":             "7\n",
	}, map[string]string{
		"sys/class/net/eth0/device": "../../../devices/pci0/81:00.0",
		"sys/class/net/eth1/device": "../../../devices/pci0/03.0/virtio2",
	})
	nodes := map[int]CPUs{0: {0, 1}, 1: {2, 3}}
	for _, tt := range []struct {
		name string
		in   []Queue
		ok   bool
		node int
		want []Queue
	}{
		{"eth0", []Queue{{0, -1, nil}, {1, -1, nil}, {2, -1, nil}}, true, 1, []Queue{{0, 31, CPUs{1}}, {1, 32, CPUs{0, 1}}, {2, -1, nil}}},
		// An interrupt that the kernel told by netlink counts more than a name.
		{"eth0", []Queue{{0, 77, nil}}, true, 1, []Queue{{0, 77, CPUs{3}}}},
		{"eth1", []Queue{{0, -1, nil}}, true, -1, []Queue{{0, 38, CPUs{0}}}},
		{"veth0", []Queue{{0, -1, nil}}, false, 0, []Queue{{0, -1, nil}}},
	} {
		f := Facts{Interface: tt.name, Queues: tt.in}
		ok, err := f.Read(root)
		if err != nil || ok != tt.ok {
			t.Errorf("%s: %v, %v", tt.name, ok, err)
		}
		if !reflect.DeepEqual(f.Queues, tt.want) {
			t.Errorf("%s: %+v, want %+v", tt.name, f.Queues, tt.want)
		}
		if ok && (f.Node != tt.node || !reflect.DeepEqual(f.Nodes, nodes) || f.Online.String() != "0-3") {
			t.Errorf("%s: node %d of %v, online %v", tt.name, f.Node, f.Nodes, f.Online)
		}
	}
	f := Facts{Interface: "eth0"}
	if err := os.Remove(filepath.Join(root, "sys/devices/system/cpu/online")); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Read(root); err == nil {
		t.Error("no error without the processors")
	}
}

func TestAdvise(t *testing.T) {
	nodes := map[int]CPUs{0: {0, 1, 2, 3}, 1: {4, 5, 6, 7}}
	base := Facts{Interface: "eth0", Receive: 1, Queues: []Queue{{0, 41, CPUs{3}}}, Process: CPUs{0, 1}, Online: CPUs{0, 1, 2, 3, 4, 5, 6, 7}, Nodes: nodes, Spins: true}
	with := func(change func(f *Facts)) Facts {
		f := base
		change(&f)
		return f
	}
	for name, tt := range map[string]struct {
		f    Facts
		want []string // of each line a part
	}{
		"well": {base, nil},
		"one": {with(func(f *Facts) {
			f.Online, f.Process, f.Nodes = CPUs{0}, CPUs{0}, nil
			f.Queues = []Queue{{0, 41, CPUs{0}}, {1, 42, CPUs{0}}}
		}), nil},
		"well, sleeps": {with(func(f *Facts) { f.Spins = false; f.Queues = []Queue{{0, 41, CPUs{1}}} }), nil},
		"unknown":      {with(func(f *Facts) { f.Queues = []Queue{{0, -1, nil}, {1, 7, nil}}; f.Node = -1; f.Nodes = nil }), nil},
		"spins there":  {with(func(f *Facts) { f.Queues = []Queue{{0, 41, CPUs{1}}} }), []string{"queue 0 of eth0: its interrupt 41 is on processor 1, where goroutines of this process spin: write 2-3, which it does not use, to /proc/irq/41/smp_affinity_list"}},
		"no other": {with(func(f *Facts) { f.Queues = []Queue{{0, 41, CPUs{1}}}; f.Online = CPUs{0, 1}; f.Nodes = nil }),
			[]string{"where goroutines of this process spin: keep the process off it (taskset), or hold interrupts back (ONLOAD_NAPI=defer)"}},
		"sleeps elsewhere": {with(func(f *Facts) { f.Spins = false }), []string{"on processor 3, which this process may not use: each packet wakes another processor; write 0-1 to /proc/irq/41/smp_affinity_list"}},
		"other node": {with(func(f *Facts) { f.Queues = []Queue{{0, 41, CPUs{4, 5}}} }),
			[]string{"its interrupt 41 is on processors 4-5, of another node than the device: write 0-3 to /proc/irq/41"}},
		"process on another node": {with(func(f *Facts) { f.Process = CPUs{5} }), []string{"eth0 is on node 0 (processors 0-3), but this process may use processors 5 only, of other nodes: run it with numactl --cpunodebind=0 --membind=0"}},
		"process on both":         {with(func(f *Facts) { f.Process = CPUs{1, 5} }), []string{"may use processors 5 of other nodes too"}},
		"crowded": {with(func(f *Facts) {
			f.Queues = []Queue{{0, 41, CPUs{3}}, {1, 42, CPUs{3}}, {2, 43, CPUs{2}}}
			f.Receive = 3
		}),
			[]string{"queues 0, 1 of eth0 have their interrupts on processor 3 together", "eth0 has"}},
		"RSS": {with(func(f *Facts) {
			f.RSS = []uint32{1, 2, 3, 1, 2, 3}
			f.Queues = []Queue{{0, 41, CPUs{3}}, {1, 42, CPUs{2}}}
		}),
			[]string{"eth0 spreads flows over queues 2-3 too", "queues 0 of eth0 were taken, but its RSS table sends no flow there"}},
		"queues": {with(func(f *Facts) { f.Queues = []Queue{{0, 40, CPUs{2}}, {1, 41, CPUs{3}}, {2, -1, nil}}; f.Receive = 3 }),
			[]string{"eth0 has 3 queues, and this process 2 processors"}},
	} {
		got := tt.f.Advise()
		if len(got) != len(tt.want) {
			t.Errorf("%s: %q", name, got)
			continue
		}
		for i := range got {
			if !strings.Contains(got[i], tt.want[i]) {
				t.Errorf("%s: %q, want %q", name, got[i], tt.want[i])
			}
		}
	}
}
