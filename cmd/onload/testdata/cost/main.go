// Command cost measures connections to itself, over loopback addresses: dialing and
// accepting one, and a byte there. It prints a line for each: its name, ns and
// allocations of an operation.
package main

import (
	"flag"
	"fmt"
	"os"
	"testing"
)

func main() {
	testing.Init()
	flag.Parse()
	l, err := listen("tcp", "127.0.0.1:0")
	check(err)
	report("dial", func() {
		c, err := dial("tcp", l.Addr().String())
		check(err)
		s, err := l.Accept()
		check(err)
		check(c.Close())
		check(s.Close())
	})
	c, err := dial("tcp", l.Addr().String())
	check(err)
	s, err := l.Accept()
	check(err)
	p := make([]byte, 1)
	report("byte", func() { // by one goroutine, which never waits
		_, err := c.Write(p)
		check(err)
		_, err = s.Read(p)
		check(err)
	})
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func report(name string, op func()) {
	r := testing.Benchmark(func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			op()
		}
	})
	fmt.Println(name, r.NsPerOp(), r.AllocsPerOp())
}
