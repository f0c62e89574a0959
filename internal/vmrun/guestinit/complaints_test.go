package main

import (
	"testing"

	_ "github.com/onload-go/onload/internal/testlong" // go test ./... -long
)

func TestIsComplaint(t *testing.T) {
	for text, want := range map[string]bool{
		"DMAR: [DMA Write NO_PASID] Request device [01:00.0] fault addr 0x1000 [fault reason 0x05]": true,
		"WARNING: CPU: 0 PID: 1 at mm/page_alloc.c:5 f+0x1/0x2":                                     true,
		"BUG: kernel NULL pointer dereference, address: 0000000000000000":                           true,
		"BUG: workqueue lockup - pool cpus=0 node=0 flags=0x0 nice=0 stuck for 33s!":                false,
		"WARNING: CPU: 0 PID: 0 at net/sched/sch_generic.c:525 dev_watchdog+0x1/0x2":                false,
		"virtio_net virtio0 eth0: entered promiscuous mode":                                         false,
	} {
		if isComplaint(text) != want {
			t.Errorf("%q: %v", text, !want)
		}
	}
}
