package engine

import (
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
)

func TestConfigFromEnv(t *testing.T) {
	for _, tt := range []struct {
		env  []string
		want Config
	}{
		{nil, Config{}},
		{[]string{"PATH=/bin", "ONLOAD_SPIN="}, Config{}},
		{[]string{"ONLOAD_INTERFACES=eth0, eth1"}, Config{Interfaces: []string{"eth0", "eth1"}}},
		{[]string{"ONLOAD_INTERFACES=auto"}, Config{Interfaces: []string{"auto"}}},
		{[]string{"ONLOAD_INTERFACES=none"}, Config{Interfaces: []string{"none"}}},
		{[]string{"ONLOAD_NETNS=/run/netns/x"}, Config{NetNS: "/run/netns/x"}},
		{[]string{"ONLOAD_BROKER=/run/b.sock"}, Config{Broker: "/run/b.sock"}},
		{[]string{"ONLOAD_PROFILE=latency", "ONLOAD_SPIN=50us"}, Config{Profile: Latency, Spin: 50 * time.Microsecond}},
		{[]string{"ONLOAD_SPIN=off"}, Config{Spin: -1}},
		{[]string{"ONLOAD_XDP_MODE=generic", "ONLOAD_ZEROCOPY=require"}, Config{Mode: ModeGeneric, ZeroCopy: ZeroCopyRequire}},
		{[]string{"ONLOAD_OFFLOADS=off"}, Config{Offloads: OffloadsOff}},
		{[]string{"ONLOAD_NAPI=defer"}, Config{NAPI: NAPIDefer}},
		{[]string{"ONLOAD_INSPECT=off"}, Config{Inspect: InspectOff}},
		{[]string{"ONLOAD_OFFLOADS=checksum"}, Config{Offloads: OffloadsChecksum}},
		{[]string{"ONLOAD_QUEUES=0,2-4"}, Config{Queues: []int{0, 2, 3, 4}}},
		{[]string{"ONLOAD_FRAMES=1024", "ONLOAD_FRAME_SIZE=2048", "ONLOAD_RING_SIZE=512", "ONLOAD_BUSY_POLL=64"},
			Config{Frames: 1024, FrameSize: 2048, RingSize: 512, BusyPoll: 64}},
		{[]string{"ONLOAD_RCVBUF=4M", "ONLOAD_SNDBUF=100000", "ONLOAD_CONGESTION=newreno"},
			Config{RcvBuf: 4 << 20, SndBuf: 100000, Congestion: "newreno"}},
		{[]string{"ONLOAD_USER_TIMEOUT=30s", "ONLOAD_MAX_ORPHANS=100", "ONLOAD_MAX_TIME_WAITS=200", "ONLOAD_MTU_PROBING=always", "ONLOAD_ECN=on"},
			Config{MTUProbing: MTUProbeAlways, ECN: ECNOn, UserTimeout: 30 * time.Second, MaxOrphans: 100, MaxTimeWaits: 200}},
	} {
		got, err := configFrom(tt.env)
		tt.want.Fallback = true
		if err != nil || !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%q: %+v, %v; want %+v", tt.env, got, err, tt.want)
		}
	}
	if c, err := configFrom([]string{"ONLOAD_FALLBACK=off"}); err != nil || c.Fallback {
		t.Errorf("ONLOAD_FALLBACK=off: %v, %v", c.Fallback, err)
	}
	if c, err := configFrom([]string{"ONLOAD_LOG=debug"}); err != nil || !c.Logger.Core().Enabled(zap.DebugLevel) {
		t.Errorf("ONLOAD_LOG=debug: %v, %v", c.Logger, err)
	}
	if c, err := configFrom([]string{"ONLOAD_LOG=off"}); err != nil || c.Logger.Core().Enabled(zap.ErrorLevel) {
		t.Errorf("ONLOAD_LOG=off: %v, %v", c.Logger, err)
	}
}

func TestConfigFromEnvErrors(t *testing.T) {
	for _, env := range []string{
		"ONLOAD_INTERFACES=eth0,auto", "ONLOAD_INTERFACES=none,eth0", "ONLOAD_INTERFACES=eth0,eth0", "ONLOAD_INTERFACES=eth0,", "ONLOAD_INTERFACES=a/b",
		"ONLOAD_INTERFACES=interface/with/slashes", "ONLOAD_FALLBACK=maybe", "ONLOAD_PROFILE=fast", "ONLOAD_SPIN=10", "ONLOAD_SPIN=-1us",
		"ONLOAD_XDP_MODE=skb", "ONLOAD_ZEROCOPY=yes", "ONLOAD_QUEUES=1-", "ONLOAD_QUEUES=3-1", "ONLOAD_QUEUES=1,1", "ONLOAD_QUEUES=9999", "ONLOAD_QUEUES=0-64",
		"ONLOAD_FRAMES=-1", "ONLOAD_FRAMES=15", "ONLOAD_BUSY_POLL=65536", "ONLOAD_FRAME_SIZE=1024", "ONLOAD_RING_SIZE=1000", "ONLOAD_BUSY_POLL=x", "ONLOAD_RCVBUF=1T",
		"ONLOAD_SNDBUF=9999M", "ONLOAD_CONGESTION=vegas", "ONLOAD_LOG=loud", "ONLOAD_INSPECT=maybe", "ONLOAD_OFFLOADS=on", "ONLOAD_NAPI=on",
		"ONLOAD_MTU_PROBING=maybe", "ONLOAD_ECN=2", "ONLOAD_USER_TIMEOUT=10", "ONLOAD_USER_TIMEOUT=1us", "ONLOAD_USER_TIMEOUT=600h", "ONLOAD_MAX_ORPHANS=-1", "ONLOAD_MAX_TIME_WAITS=x",
		"ONLOAD_PROFLIE=latency",
	} {
		_, err := configFrom([]string{env})
		name, _, _ := strings.Cut(env, "=")
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: error %v does not name it", env, err)
		}
	}
	// A queue wants 16 frames, whichever variable comes first.
	for _, env := range [][]string{{"ONLOAD_QUEUES=0,1", "ONLOAD_FRAMES=31"}, {"ONLOAD_FRAMES=31", "ONLOAD_QUEUES=0,1"}} {
		if _, err := configFrom(env); err == nil || !strings.Contains(err.Error(), `ONLOAD_FRAMES="31"`) {
			t.Errorf("%q: error %v does not name the frames", env, err)
		}
	}
	_, err := configFrom([]string{"ONLOAD_PROFLIE=latency", "ONLOAD_SPIN=x"})
	for _, want := range []string{"unknown variable ONLOAD_PROFLIE", "ONLOAD_PROFILE", `ONLOAD_SPIN="x"`, "a duration such as"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %q is missing", err, want)
		}
	}
}

func TestConfigCheck(t *testing.T) {
	for field, c := range map[string]Config{
		"Interfaces": {Interfaces: []string{"auto", "eth0"}},
		"Profile":    {Profile: 9},
		"Mode":       {Mode: 9},
		"ZeroCopy":   {ZeroCopy: -1},
		"Queues":     {Queues: []int{4096}},
		"Frames":     {Frames: 31, Queues: []int{0, 1}},
		"FrameSize":  {FrameSize: 1000},
		"RingSize":   {RingSize: 3},
		"Offloads":   {Offloads: 9},
		"NAPI":       {NAPI: 9},
		"BusyPoll":   {BusyPoll: 65536},
		"RcvBuf":     {RcvBuf: -1},
		"SndBuf":     {SndBuf: 1<<30 + 1},
		"Congestion": {Congestion: "vegas"},
		"ECN":        {ECN: 9},

		"MTUProbing":   {MTUProbing: 9},
		"UserTimeout":  {UserTimeout: -1},
		"MaxOrphans":   {MaxOrphans: -1},
		"MaxTimeWaits": {MaxTimeWaits: math.MaxInt32 + 1},
	} {
		if _, err := New(c); err == nil || !strings.Contains(err.Error(), "Config."+field) {
			t.Errorf("%s: error %v does not name it", field, err)
		}
	}
}

// TestSettings checks that the table and Config agree.
func TestSettings(t *testing.T) {
	typ := reflect.TypeFor[Config]()
	all := Settings()
	for i := range typ.NumField() {
		name := typ.Field(i).Name
		if !slices.ContainsFunc(all, func(s Setting) bool { return s.Field == name }) {
			t.Errorf("Config.%s has no setting", name)
		}
	}
	for _, s := range all {
		if _, ok := typ.FieldByName(s.Field); !ok {
			t.Errorf("%s: Config has no field %s", s.Env, s.Field)
		}
		if s.Env == "" || s.Values == "" || s.Default == "" || s.Doc == "" {
			t.Errorf("%+v is incomplete", s)
		}
	}
}
