package afxdp

import (
	"runtime"
	"sync"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"

	"github.com/onload-go/onload/driver/afxdp/bpf"
)

// bufferLayout returns where this kernel keeps the segment size of joined
// datagrams, as the variables of steer.c. It is nil if the kernel does not describe
// itself (CONFIG_DEBUG_INFO_BTF). Looking takes 25 ms.
var bufferLayout = sync.OnceValue(func() map[string]uint32 {
	kernel, err := btf.LoadKernelSpec()
	if err != nil {
		return nil
	}
	var buff, shared *btf.Struct
	if kernel.TypeByName("xdp_buff", &buff) != nil || kernel.TypeByName("skb_shared_info", &shared) != nil {
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

// revealSegments tells the program where to find the segment size of joined
// datagrams. It returns false if that is not known.
func revealSegments(spec *ebpf.CollectionSpec) bool {
	layout := bufferLayout()
	for variable, value := range layout {
		if spec.Variables[variable].Set(value) != nil {
			return false
		}
	}
	return layout != nil
}
