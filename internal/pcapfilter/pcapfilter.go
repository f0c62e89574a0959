// Package pcapfilter compiles tcpdump's filter expressions (pcap-filter(7)) for packets
// with an Ethernet header.
//
// libpcap does it, by the program tcpdump, since this program has no C in it. Of the
// compilers in Go github.com/packetcap/go-pcap (May 2024) was tried with 28 expressions
// and 2,000 packets each: 14 had libpcap's verdict on all of them. `! tcp`, `icmp`,
// `tcp[13] & 2 != 0`, `portrange 50-90`, `udp or tcp and port 80` and `host 10.0.0.1 and
// not port 80` had another one without an error; `arp`, `vlan` and others failed.
package pcapfilter

import (
	"bytes"
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"strings"

	"golang.org/x/net/bpf"
)

// places are where tcpdump is that is not in PATH, as for users without sbin there.
var places = []string{"tcpdump", "/usr/sbin/tcpdump", "/usr/bin/tcpdump", "/sbin/tcpdump"}

// Compile returns the instructions of an expression; nil for an empty one. They return
// how many bytes of a packet pass, 0 for none.
func Compile(expression string) ([]bpf.RawInstruction, error) {
	if strings.TrimSpace(expression) == "" {
		return nil, nil
	}
	path, err := find()
	if err != nil {
		return nil, err
	}
	c := exec.Command(path, "-y", "EN10MB", "-ddd", "--", expression)
	var complaint bytes.Buffer
	c.Stderr = &complaint
	out, err := c.Output()
	if err != nil {
		why := strings.TrimPrefix(strings.TrimSpace(complaint.String()), "tcpdump: ")
		if why == "" {
			why = err.Error()
		}
		return nil, fmt.Errorf("filter %q: %s", expression, why)
	}
	all, err := parse(string(out))
	if err != nil {
		return nil, fmt.Errorf("filter %q: what tcpdump -ddd says: %w", expression, err)
	}
	for _, i := range all {
		if i.Op&0xe7 == 0x20 && i.K >= kernelOnly { // BPF_LD|BPF_ABS of any size
			return nil, fmt.Errorf("filter %q: it asks what only the kernel knows of a packet (-Q chooses the direction)", expression)
		}
	}
	return all, nil
}

// kernelOnly is SKF_AD_OFF of linux/filter.h: loads from there on are no packet's.
const kernelOnly = 0xfffff000

func find() (string, error) {
	for _, p := range places {
		if path, err := exec.LookPath(p); err == nil {
			return path, nil
		}
	}
	return "", errors.New("filters are compiled by the program tcpdump, which is not here: install it (apt-get install tcpdump)")
}

// parse reads the output of tcpdump -ddd: the number of instructions, then each.
func parse(text string) ([]bpf.RawInstruction, error) {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	if n, err := strconv.Atoi(lines[0]); err != nil || n != len(lines)-1 || n == 0 {
		return nil, fmt.Errorf("%d lines after %q", len(lines)-1, lines[0])
	}
	var all []bpf.RawInstruction
	for _, l := range lines[1:] {
		var i bpf.RawInstruction
		if _, err := fmt.Sscanf(l, "%d %d %d %d", &i.Op, &i.Jt, &i.Jf, &i.K); err != nil {
			return nil, fmt.Errorf("%q: %w", l, err)
		}
		all = append(all, i)
	}
	return all, nil
}
