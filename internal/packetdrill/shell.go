package packetdrill

import (
	"math"
	"regexp"
	"strconv"
	"strings"

	"github.com/onload-go/onload/tcp"
)

// publicDefaults does what defaults.sh of the public scripts does, in our terms:
// buffers grow to 15 MiB, unused windows stay, ECN is off.
func publicDefaults(c tcp.Config) tcp.Config {
	c.MaxRcvBuf = 15 << 20
	c.KeepIdleCwnd = true
	c.ECN = tcp.ECNOff
	return c
}

// product is all of arithmetic that scripts need.
var product = regexp.MustCompile(`\$\(\([0-9* ]+\)\)`)

// shell applies a command line of a script to us.
func (m *machine) shell(text string) error {
	text = product.ReplaceAllStringFunc(strings.ReplaceAll(text, "\\\n", " "), func(e string) string {
		n := 1
		for _, f := range strings.Split(strings.Trim(e, "$()"), "*") {
			k, _ := strconv.Atoi(strings.TrimSpace(f))
			n *= k
		}
		return strconv.Itoa(n)
	})
	for _, line := range strings.FieldsFunc(text, func(r rune) bool { return r == '\n' || r == ';' }) {
		if i := strings.IndexByte(line, '#'); i >= 0 {
			line = line[:i]
		}
		for _, cmd := range strings.Split(line, "||") {
			if err := m.command(words(cmd)); err != nil {
				return err
			}
		}
	}
	return nil
}

// words splits a command line, honouring double quotes.
func words(s string) (ws []string) {
	var w strings.Builder
	quoted, any := false, false
	for _, r := range s {
		switch {
		case r == '"' || r == '\'':
			quoted, any = !quoted, true
		case !quoted && (r == ' ' || r == '\t'):
			if any {
				ws = append(ws, w.String())
			}
			w.Reset()
			any = false
		default:
			w.WriteRune(r)
			any = true
		}
	}
	if any {
		ws = append(ws, w.String())
	}
	return ws
}

func (m *machine) command(ws []string) error {
	if len(ws) == 0 {
		return nil
	}
	name := ws[0][strings.LastIndexByte(ws[0], '/')+1:]
	switch {
	case name == "defaults.sh":
		m.set.tcp, m.set.fast = publicDefaults(m.set.tcp), publicFastOpen
		m.h.ForgetFastOpen()
		return nil
	case strings.HasPrefix(name, "sysctl_restore_"):
		return nil
	case name == "sysctl", name == "set_sysctls.py":
		for _, w := range ws[1:] {
			k, v, ok := strings.Cut(w, "=")
			if !ok {
				continue // a flag, a redirection
			}
			k = strings.ReplaceAll(strings.TrimPrefix(k, "/proc/sys/"), "/", ".")
			if strings.HasPrefix(k, "net.inet.tcp.") || strings.HasPrefix(k, "kern.") {
				if err := m.bsdSysctl(k, v); err != nil {
					return err
				}
				continue
			}
			if err := m.sysctl(strings.TrimPrefix(k, "net.ipv4."), v); err != nil {
				return err
			}
		}
		return nil
	case name == "tc" && strings.HasSuffix(strings.Join(ws, " "), "dev tun0 root pfifo limit 0"):
		m.full = true
		return nil
	case strings.Join(ws, " ") == "tc qdisc replace dev tun0 root fq":
		m.set.tcp.MaxPacingRate = math.MaxInt64
		return nil
	case strings.HasPrefix(strings.Join(ws, " "), "tc qdisc delete dev tun0 root"):
		m.full = false
		return nil
	case name == "sockstat":
		return m.sockstat(ws)
	case strings.Join(ws, " ") == "tcpdrop -s TIME_WAIT":
		m.dropTimeWait()
		return nil
	case strings.Join(ws, " ") == "ethtool -K tun0 tso off gso off":
		m.h.TSO = 0
		return nil
	case strings.HasPrefix(strings.Join(ws, " "), "ip tcp_metrics flush"):
		m.h.ForgetFastOpen()
		return nil
	case name == "nstat", name == "sleep", name == "true":
		return nil
	}
	return unsupportedf("command %q", strings.Join(ws, " "))
}

// inert lists the settings that make no difference here: sizes of packets that the
// device cuts, and algorithms that we use, always or never, as the given value
// says.
var inert = map[string]string{
	"tcp_tso_win_divisor": "", "tcp_pacing_ss_ratio": "", "tcp_pacing_ca_ratio": "",
	"tcp_base_mss": "", "tcp_syncookies": "1", "tcp_dsack": "1", "tcp_fack": "0", "tcp_frto": "2",
	"tcp_early_retrans": "4 3", "tcp_recovery": "1", "tcp_reordering": "3", "tcp_retries2": "15",
	"tcp_syn_retries": "5 6", "tcp_synack_retries": "5", "tcp_autocorking": "", "tcp_moderate_rcvbuf": "1",
	"tcp_notsent_lowat": "-1 4294967295", "tcp_mem": "", "tcp_invalid_ratelimit": "500",
	"tcp_fastopen_blackhole_timeout_sec": "", "tcp_fastopen_cookies": "", "tcp_ecn_fallback": "1", "tcp_limit_output_bytes": "",
	"tcp_no_metrics_save": "", "tcp_wmem": "", "tcp_comp_sack_nr": "0",
}

// sysctl maps a setting of Linux's to ours.
func (m *machine) sysctl(name, val string) error {
	c := &m.set.tcp
	n, _ := strconv.Atoi(val)
	if ok, known := inert[name]; known {
		for _, w := range strings.Fields(ok) {
			if w == val {
				return nil
			}
		}
		if ok == "" {
			return nil
		}
		return unsupportedf("sysctl %s=%s", name, val)
	}
	switch name {
	case "tcp_slow_start_after_idle":
		c.KeepIdleCwnd = n == 0
	case "tcp_min_tso_segs":
		m.h.MinTSOSegs = max(n, 1)
	case "tcp_timestamps":
		c.NoTimestamps = n == 0
	case "tcp_sack":
		c.NoSACK = n == 0
	case "tcp_window_scaling":
		c.NoWindowScale = n == 0
	case "tcp_ecn":
		switch n {
		case 0:
			c.ECN = tcp.ECNOff
		case 1:
			c.ECN = tcp.ECNOn
		case 2:
			c.ECN = tcp.ECNAccept
		default:
			return unsupportedf("accurate ECN")
		}
	case "tcp_congestion_control":
		if val == "reno" {
			val = "newreno"
		}
		c.Congestion = val
	case "tcp_mtu_probing":
		c.MTUProbing = [...]tcp.MTUProbing{tcp.MTUProbeOff, 0, tcp.MTUProbeAlways}[min(max(n, 0), 2)]
	case "tcp_fastopen":
		bits, err := strconv.ParseInt(val, 0, 64)
		if err != nil {
			return failf("sysctl %s=%s", name, val)
		}
		m.set.fast.bits = bits
	case "tcp_fastopen_key":
		keys, err := tcp.ParseFastOpenKeys(val)
		if err != nil {
			return failf("sysctl %s: %v", name, err)
		}
		m.set.fast.keys = keys
	case "tcp_rmem":
		w := strings.Fields(val)
		if len(w) != 3 {
			return failf("sysctl %s=%s", name, val)
		}
		c.MaxRcvBuf, _ = strconv.Atoi(w[2])
	default:
		return unsupportedf("sysctl %s=%s", name, val)
	}
	return nil
}
