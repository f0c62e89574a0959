package packetdrill

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// The scripts of testdata, over both versions of IP.
func TestScripts(t *testing.T) {
	n := 0
	err := filepath.WalkDir("testdata", func(path string, d fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".pkt") {
			return err
		}
		src, err := os.ReadFile(path)
		n++
		for _, v6 := range []bool{false, true} {
			name := strings.TrimSuffix(strings.TrimPrefix(path, "testdata/"), ".pkt")
			if v6 {
				name += "/v6"
			}
			t.Run(name, func(t *testing.T) {
				if r := Run(string(src), Config{IPv6: v6}); r.Verdict != Pass {
					t.Errorf("%v", r)
				}
			})
		}
		return err
	})
	if err != nil || n < 30 {
		t.Fatalf("%d scripts, %v", n, err)
	}
}

// The runner finds faults: the last line of each script is wrong, or asks for
// something that is unsupported.
func TestVerdicts(t *testing.T) {
	const open = `0 socket(..., SOCK_STREAM, IPPROTO_TCP) = 3
+0 bind(3, ..., ...) = 0
+0 listen(3, 1) = 0
+0 < S 0:0(0) win 32000 <mss 1000,sackOK,TS val 1 ecr 0>
+0 > S. 0:0(0) ack 1 win 65535 <mss 1460,sackOK,TS val 100 ecr 1>
+.1 < . 1:1(0) ack 1 win 32000 <nop,nop,TS val 2 ecr 100>
+0 accept(3, ..., ...) = 4
+0 write(4, ..., 988) = 988
`
	for _, c := range []struct {
		verdict Verdict
		last    string
		what    string
	}{
		{Pass, "+0 > P. 1:989(988) ack 1 <...>", ""},
		{Fail, "+.01 > P. 1:989(988) ack 1 <...>", "left at"},
		{Fail, "+0 > . 1:989(988) ack 1 <...>", "flags"},
		{Fail, "+0 > . 2:990(988) ack 1 <...>", ""},
		{Fail, "+0 > P. 1:989(988) ack 1 win 5 <...>", "window"},
		{Fail, "+0 > P. 1:989(988) ack 2 <...>", "acknowledgement"},
		{Fail, "+0 > P. 1:989(988) ack 1", "options"},
		{Fail, "+0 > P. 1:989(988) ack 1 <nop,nop,TS val 200 ecr 3>", "option"},
		{Fail, "+0 > [ect0] P. 1:989(988) ack 1 <...>", "ECN"},
		{Fail, "+0 > P. 1:3001(3000) ack 1 <...>", "a gap"},
		{Fail, "+0 < . 1:1(0) ack 1 win 9 <nop,nop,TS val 3 ecr 777>", "TS ecr"},
		{Fail, "+0 read(4, ..., 10) = 10", "does not return"},
		{Fail, "+0 write(4, ..., 10) = 9", "returned 10"},
		{Fail, "+0 write(9, ..., 10) = -1 EPIPE", "EBADF"},
		{Fail, "+0...0.05 read(4, ..., 10) = -1 ETIMEDOUT", "does not return"},
		{Fail, "+0 %{ assert tcpi_snd_cwnd == 11, tcpi_snd_cwnd }%", "is 10"},
		{Unsupported, "+0 %{ import os }%\n+0 %{ assert tcpi_what == 1 }%", "tcpi_what"},
		{Unsupported, "+0 `reboot`", "reboot"},
		{Unsupported, "+0 `sysctl -w net.inet.tcp.insecure_rst=1`", "insecure_rst"},
		{Fail, "+0 `sockstat -s | grep -c SYN_RCVD | grep 2`", "0 connections"},
		{Fail, "+0 recv(4, ..., 10, MSG_PEEK) = 10", "does not return"},
		{Unsupported, "+0 send(4, ..., 1, MSG_OOB) = 1", "MSG"},
		{Fail, "+0...0.05 poll([{fd=4, events=POLLIN, revents=POLLIN}], 1, 50) = 1", "returned 0"},
	} {
		src := open + strings.ReplaceAll(c.last, "\\n", "\n")
		r := Run(src, Config{})
		if r.Verdict != c.verdict || !strings.Contains(r.What, c.what) {
			t.Errorf("%s\n%v, want %v with %q", c.last, r, c.verdict, c.what)
		}
		if line := strings.Count(src, "\n") + 1; r.Verdict != Pass && r.Line != line {
			t.Errorf("%s\nline %d, want %d", c.last, r.Line, line)
		}
	}
}

// A call that returns something else than the script says fails the script at
// that call, wherever it stands.
func TestOtherResults(t *testing.T) {
	result := regexp.MustCompile(`\) *= (\d+)( *//.*)?$`)
	n := 0
	err := filepath.WalkDir("testdata", func(path string, d fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".pkt") {
			return err
		}
		src, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		lines := strings.Split(string(src), "\n")
		for i, line := range lines {
			at := result.FindStringSubmatchIndex(line)
			if at == nil || strings.Contains(line, "socket(") || strings.Contains(line, "accept(") {
				continue // which give the file a name of the script's
			}
			v, err := strconv.Atoi(line[at[2]:at[3]])
			if err != nil {
				return err
			}
			n++
			changed := slices.Clone(lines)
			changed[i] = line[:at[2]] + strconv.Itoa(v+1) + line[at[3]:]
			if r := Run(strings.Join(changed, "\n"), Config{}); r.Verdict != Fail || r.Line != i+1 {
				t.Errorf("%s, line %d, with %s: %v", path, i+1, changed[i], r)
			}
		}
		return nil
	})
	if err != nil || n < 100 {
		t.Fatalf("%d results, %v", n, err)
	}
}
