package afxdp

import (
	"runtime"
	"sync"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"

	"github.com/onload-go/onload/driver/afxdp/bpf"
)

// kernelLayout returns where this kernel keeps the segment size of joined
// datagrams, and the address of an interface, as the variables of steer.c. It is nil
// if the kernel does not describe itself (CONFIG_DEBUG_INFO_BTF). Looking takes
// 25 ms.
var kernelLayout = sync.OnceValue(func() map[string]uint32 {
	kernel, err := btf.LoadKernelSpec()
	if err != nil {
		return nil
	}
	var buff, queue, device, shared *btf.Struct
	if kernel.TypeByName("xdp_buff", &buff) != nil || kernel.TypeByName("xdp_rxq_info", &queue) != nil ||
		kernel.TypeByName("net_device", &device) != nil || kernel.TypeByName("skb_shared_info", &shared) != nil {
		return nil
	}
	line := uint32(64) // SMP_CACHE_BYTES, to which SKB_DATA_ALIGN aligns
	switch runtime.GOARCH {
	case "ppc64", "ppc64le":
		line = 128
	case "s390x":
		line = 256
	}
	layout := map[string]uint32{bpf.SteerVarSharedSize: (shared.Size + line - 1) &^ (line - 1)}
	for _, f := range []struct {
		variable string
		in       *btf.Struct
		name     string
	}{
		{bpf.SteerVarBuffHardStart, buff, "data_hard_start"},
		{bpf.SteerVarBuffFrameSz, buff, "frame_sz"},
		{bpf.SteerVarSharedGsoSize, shared, "gso_size"},
		{bpf.SteerVarSharedGsoType, shared, "gso_type"},
		{bpf.SteerVarBuffRxq, buff, "rxq"},
		{bpf.SteerVarRxqDev, queue, "dev"},
		{bpf.SteerVarDeviceAddr, device, "dev_addr"},
	} {
		off, ok := offsetOf(f.in.Members, f.name)
		if !ok {
			return nil
		}
		layout[f.variable] = off
	}
	return layout
})

// offsetOf returns the offset of the member of that name, in bytes, which may
// stand in an anonymous struct or union.
func offsetOf(members []btf.Member, name string) (uint32, bool) {
	for _, m := range members {
		if m.Name == name {
			return m.Offset.Bytes(), true
		}
		if m.Name != "" {
			continue
		}
		var inner []btf.Member
		switch t := m.Type.(type) {
		case *btf.Struct:
			inner = t.Members
		case *btf.Union:
			inner = t.Members
		}
		if off, ok := offsetOf(inner, name); ok {
			return m.Offset.Bytes() + off, true
		}
	}
	return 0, false
}

// reveal tells the program where the kernel keeps what it reads of its memory. Joined
// datagrams are known in generic mode only. reveal returns false if the places are not
// known.
func reveal(spec *ebpf.CollectionSpec, mode Mode) bool {
	layout := kernelLayout()
	for variable, value := range layout {
		if variable == bpf.SteerVarSharedSize && mode != ModeGeneric {
			continue
		}
		if spec.Variables[variable].Set(value) != nil {
			return false
		}
	}
	return layout != nil
}
