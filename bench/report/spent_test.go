package report

import "testing"

func TestClassOf(t *testing.T) {
	const (
		stk = ours + "internal/stack.(*Stack)."
		xsk = ours + "driver/afxdp."
	)
	for _, c := range []struct {
		want  string
		stack []string
	}{
		{Transmit, []string{"internal/runtime/syscall/linux.Syscall6", "syscall.RawSyscall6", xsk + "sendKick", xsk + "(*Queue).Kick", stk + "flush"}},
		{Transmit, []string{"internal/runtime/syscall/linux.Syscall6", "syscall.Syscall", "syscall.write", "internal/poll.(*FD).Write", "net.(*conn).Write"}},
		{Calls, []string{"internal/runtime/syscall/linux.Syscall6", "internal/runtime/syscall/linux.EpollWait", "runtime.netpoll"}},
		{Waiting, []string{"sync/atomic.(*Uint32).Load", xsk + "(*Queue).RxPending", stk + "rxPending", stk + "spinFor", stk + "wait"}},
		{Waiting, []string{"runtime.nanotime", stk + "spinFor", stk + "wait"}},
		{Waiting, []string{xsk + "(*Queue).RxPending", ours + "bench/raw.(*end).recvInto"}},
		{Rings, []string{xsk + "(*Queue).RxBatch", ours + "bench/raw.(*end).recvInto"}},
		{Rings, []string{xsk + "(*Queue).RxBatch", stk + "poll", stk + "spinFor", stk + "wait"}},
		{Protocol, []string{ours + "tcp.(*Conn).Input", stk + "connInput", stk + "poll", stk + "spinFor"}},
		{Turns, []string{"runtime.nanotime", stk + "enter", stk + "poll"}},
		{Copying, []string{"runtime.memmove", ours + "tcp.(*Conn).Read"}},
		{Copying, []string{ours + "ip.copyAVX2", ours + "ip.copyBlocks", ours + "ip.SumCopy", ours + "tcp.(*Conn).Write"}},
		{Headers, []string{ours + "ip.(*Repeat).match4", stk + "packet"}},
		{API, []string{ours + "net.(*TCPConn).Read", ours + "bench/load.echo"}},
		{Peer, []string{"runtime.mallocgc", "gvisor.dev/gvisor/pkg/buffer.NewView"}},
		{Workload, []string{ours + "bench/load.callTCP", "main.child"}},
		{GoTime, []string{"runtime.schedule", "runtime.mcall"}},
	} {
		if got := classOf(c.stack); got != c.want {
			t.Errorf("%s is %q, want %q", c.stack, got, c.want)
		}
	}
}

func TestGrouped(t *testing.T) {
	for v, want := range map[float64]string{0: "0", 0.8412: "0.841", 62.83: "62.8", 999.9: "1000", 1000: "1,000", 76449: "76,400", 737123: "737,000", 1234567: "1,230,000"} {
		if got := grouped(v); got != want {
			t.Errorf("%v is %q, want %q", v, got, want)
		}
	}
}
