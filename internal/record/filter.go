package record

import (
	"fmt"

	"golang.org/x/net/bpf"

	"github.com/onload-go/onload/ring"
)

// MostInstructions bounds a filter, as the kernel does (BPF_MAXINSNS).
const MostInstructions = 4096

// load makes a filter ready to run. A filter only jumps forward, so it ends.
func load(raw []bpf.RawInstruction) (*bpf.VM, error) {
	if len(raw) > MostInstructions {
		return nil, fmt.Errorf("the filter has %d instructions, %d are the most", len(raw), MostInstructions)
	}
	all, ok := bpf.Disassemble(raw)
	if !ok {
		return nil, fmt.Errorf("the filter has an unknown instruction")
	}
	vm, err := bpf.NewVM(all)
	if err != nil {
		return nil, fmt.Errorf("the filter: %w", err)
	}
	return vm, nil
}

// passes reports whether the filter lets a packet pass.
func (t *Tap) passes(a *ring.Arena, ds []ring.Desc, length int) bool {
	b := a.Data(ds[0])
	if len(ds) > 1 {
		t.whole = t.whole[:0]
		for i := range ds {
			t.whole = append(t.whole, a.Data(ds[i])...)
		}
		b = t.whole
	}
	n, err := t.filter.Run(b)
	return err == nil && n > 0
}
