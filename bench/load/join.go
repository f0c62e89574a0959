package load

// Join makes one Sample of both ends'.
func Join(client, server Sample) Joined {
	j := Joined{Sample: client, ClientCPU: client.CPU, ServerCPU: server.CPU,
		ClientPath: client.Path, ServerPath: server.Path,
		ClientCounters: client.Counters, ServerCounters: server.Counters,
		ServerHeapPerConn: server.HeapPerConn, ServerRSSPerConn: server.RSSPerConn}
	j.Sample.CPU, j.Path, j.Counters = CPU{}, "", nil
	// The receiver counted.
	if server.Ops > 0 {
		j.Ops, j.Bytes, j.Seconds, j.AllOps = server.Ops, server.Bytes, server.Seconds, server.AllOps
	}
	return j
}

// Joined is the result of one run of a case.
type Joined struct {
	Sample
	ClientCPU, ServerCPU           CPU
	ClientPath, ServerPath         string  `json:",omitempty"`
	ClientCounters, ServerCounters any     `json:",omitempty"`
	ServerHeapPerConn              float64 `json:",omitempty"`
	ServerRSSPerConn               float64 `json:",omitempty"`

	// Softirq is the time that the machine spent in interrupts and softirqs
	// meanwhile, where it is not part of the processes' own. Others is the time
	// of programs that are not ours: noise.
	Softirq, Others, Wall float64
}

// CPUPerOp is processor time in seconds for one operation (one byte of a bulk
// stream), both ends together with the machine's softirqs.
func (j *Joined) CPUPerOp() float64 {
	if j.AllOps == 0 {
		return 0
	}
	return (j.ClientCPU.Total() + j.ServerCPU.Total() + j.Softirq) / float64(j.AllOps)
}
