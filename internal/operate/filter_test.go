package operate

import (
	"strings"
	"testing"
	"time"

	"github.com/onload-go/onload/internal/inspect/report"
	_ "github.com/onload-go/onload/internal/testlong" // go test ./... -long
)

func sample(state, local string, lport uint16, peer string, pport uint16) *report.Socket {
	return &report.Socket{Proto: "tcp", State: state, Local: report.End{Address: local, Port: lport}, Peer: report.End{Address: peer, Port: pport},
		Carrier: "stack", Interface: "eth0,eth1"}
}

// TestFilter: expressions of ss(8)'s grammar, on four sockets.
func TestFilter(t *testing.T) {
	sockets := []*report.Socket{
		sample("ESTAB", "10.0.0.1", 80, "10.1.2.3", 40000),
		sample("ESTAB", "2001:db8::1", 443, "2001:db8::2", 50000),
		sample("TIME-WAIT", "10.0.0.1", 80, "192.0.2.7", 1024),
		sample("LISTEN", "*", 8080, "", 0),
	}
	sockets[1].Carrier, sockets[1].Interface = "kernel", ""
	for _, tt := range []struct{ filter, want string }{
		{"", "01"},
		{"state all", "0123"},
		{"state established", "01"},
		{"state listening state time-wait", "23"},
		{"state all exclude listening", "012"},
		{"exclude time-wait", "013"},
		{"state connected", "012"},
		{"state bucket", "2"},
		{"state big", "013"},
		{"state synchronized", "012"},
		{"sport = :80", "0"},
		{"sport eq 80", "0"},
		{"state all ( sport = :80 or sport = :443 )", "012"},
		{"state all (sport=:80||sport=:443)&&!dst 192.0.2.0/24", "01"},
		{"state all not ( sport = :80 or sport = :443 )", "3"},
		{"dst 10.0.0.0/8", "0"},
		{"dst != 10.0.0.0/8", "1"},
		{"dst 10.0.0.0/8 or dst [2001:db8::]/32", "01"},
		{"dst [2001:db8::2]:50000", "1"},
		{"dst 2001:db8::2", "1"},
		{"dst 10.1.2.3:40000", "0"},
		{"dst 10.1.2.3:40001", ""},
		{"src *:443", "1"},
		{"src :443", "1"},
		{"state all dport < 50000 and dport >= 1024", "02"},
		{"state all sport gt :1024", "3"},
		{"dport neq :40000", "1"},
		{"state all dev eth1", "023"},
		{"state all dev != eth1", "1"},
		{"path kernel", "1"},
		{"sport = :80 dst 10.0.0.0/8", "0"},
		// and binds closer than or.
		{"state all sport = :8080 or sport = :80 and dst 10.0.0.0/8", "03"},
	} {
		f, err := parseFilter(strings.Fields(tt.filter))
		if err != nil {
			t.Errorf("%s: %v", tt.filter, err)
			continue
		}
		f.defaults(&ssOptions{})
		got := ""
		for i, x := range sockets {
			if f.matches(x) {
				got += string(rune('0' + i))
			}
		}
		if got != tt.want {
			t.Errorf("%s: %q, not %q", tt.filter, got, tt.want)
		}
	}
	if services()[service{"tcp", 80}] == "http" { // netbase is installed
		f, err := parseFilter([]string{"sport", "=", ":http"})
		if err != nil {
			t.Fatal(err)
		}
		if f.defaults(&ssOptions{}); !f.matches(sockets[0]) || f.matches(sockets[1]) {
			t.Error("sport = :http is not port 80")
		}
	}
	for filter, want := range map[string]string{
		"state":                         "no state",
		"state up":                      `"up" is no state`,
		"sport":                         `"" is no comparison`,
		"sport ~ :80":                   `"~" is no comparison`,
		"sport = :none-such":            `"none-such" is no port`,
		"sport = :70000":                "is no port",
		"dst":                           "an address is missing",
		"dst example.com":               "is no address",
		"dst 10.0.0.0/33":               "is no address",
		"dst [::1":                      "a ] is missing",
		"( sport = :80":                 "a ) is missing",
		"sport = :80 )":                 `")" is not expected`,
		"sport = :80 and":               "missing at the end",
		"not":                           "missing at the end",
		"port = :80":                    "want src, dst",
		"path both":                     "kernel or stack",
		"dev":                           "wants a name",
		"sport = :80 state time-wait":   "want src, dst",
		strings.Repeat("( ", 3) + "not": "missing at the end",
	} {
		if _, err := parseFilter(strings.Fields(filter)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, not %s", filter, err, want)
		}
	}
}

// TestTimeText has ss's own texts.
func TestTimeText(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0:                                "000ms",
		5 * time.Millisecond:             "005ms",
		200 * time.Millisecond:           "200ms",
		time.Second:                      "1sec",
		1200 * time.Millisecond:          "1.200ms",
		13900 * time.Millisecond:         "13sec",
		90 * time.Second:                 "1min30sec",
		time.Minute:                      "1min",
		119*time.Minute + 59*time.Second: "119min",
	} {
		if got := timeText(d); got != want {
			t.Errorf("%v: %s, not %s", d, got, want)
		}
	}
}
