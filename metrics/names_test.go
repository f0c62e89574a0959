package metrics

import "testing"

func TestNameOf(t *testing.T) {
	for counter, want := range map[string]string{
		"Polls":                     "polls",
		"RxNoSocket":                "rx_no_socket",
		"UDPRcvbufErrors":           "udp_rcvbuf_errors",
		"UDPs":                      "udps",
		"ICMPErrors":                "icmp_errors",
		"Fragments.ECN":             "reassembly_ecn",
		"TCP.ListenDrops":           "tcp_listen_drops",
		"TCP.TCPTimeouts":           "tcp_timeouts",
		"TCP.TW":                    "tcp_tw",
		"TCP.TCPSpuriousRTOs":       "tcp_spurious_rtos",
		"TCP.DelayedACKs":           "tcp_delayed_acks",
		"TCP.PAWSEstab":             "tcp_paws_estab",
		"TCP.TCPReqQFullDoCookies":  "tcp_req_q_full_do_cookies",
		"TCP.TCPACKSkippedSynRecv":  "tcp_ack_skipped_syn_recv",
		"TCP.TCPFastOpenCookieReqd": "tcp_fast_open_cookie_reqd",
		"TCP.InCEPkts":              "tcp_in_ce_pkts",
	} {
		if got := nameOf(counter); got != want {
			t.Errorf("%s is %s, want %s", counter, got, want)
		}
	}
}
