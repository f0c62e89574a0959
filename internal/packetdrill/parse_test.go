package packetdrill

import "testing"

const sample = `--tolerance_usecs=10000
0 socket(..., SOCK_STREAM, IPPROTO_TCP) = 3
+.1 < [ect0] SEW 0:0(0) win 32792 <mss 1000,sackOK,TS val 1 ecr 0,nop,wscale 7>
+0...0.2 read(4, ..., 1000) = -1 ECONNRESET (Connection reset by peer)
+0~+0.1 > . 1:1(0) ack 1 <sack 3:5 7:9,nop,nop>
* > icmp unreachable frag_needed mtu 1200 [1:1461(1460)]
+0 poll([{fd=4, events=POLLIN|POLLOUT}], 1, 0) = 1
+0 %{ assert tcpi_cwnd == 10 }%
`

func TestParse(t *testing.T) {
	sc, err := Parse(sample)
	if err != nil {
		t.Fatal(err)
	}
	ev := sc.Events
	if len(sc.Options) != 1 || len(ev) != 7 {
		t.Fatalf("%d options, %d events", len(sc.Options), len(ev))
	}
	if p := ev[1].Packet; !p.In || p.ECN != ECT0 || p.Flags != 0xc2 || len(p.Opts) != 5 || ev[1].Time.At != 1e8 {
		t.Errorf("SYN: %+v", p)
	}
	if c := ev[2]; !c.Time.Blocking || c.Time.To != 2e8 || c.Call.Errno != "ECONNRESET" || c.Call.Result.Num != -1 {
		t.Errorf("read: %+v", c)
	}
	if b := ev[3].Packet.Opts[0].Blocks; !ev[3].Time.Range || len(b) != 2 || b[1] != (Block{7, 9}) {
		t.Errorf("SACK: %+v", b)
	}
	if p := ev[4].Packet; p.ICMPMTU != 1200 || p.QLen != 1460 {
		t.Errorf("ICMP: %+v", p)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(sample)
	f.Fuzz(func(t *testing.T, src string) {
		if _, err := Parse(src); err != nil {
			if e, ok := err.(*Error); !ok || e.Line < 1 {
				t.Fatalf("%T %v", err, err)
			}
		}
	})
}
