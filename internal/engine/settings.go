package engine

import (
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/onload-go/onload/driver"
	"github.com/onload-go/onload/internal/broker/wire"
	"github.com/onload-go/onload/internal/guardian"
	"github.com/onload-go/onload/internal/similar"
	"github.com/onload-go/onload/internal/stack"
	"github.com/onload-go/onload/tcp"
)

// Setting describes a field of Config and its environment variable.
type Setting struct {
	Field   string // of Config
	Env     string
	Values  string // what is valid
	Default string
	Doc     string
}

// Settings lists all settings.
func Settings() []Setting {
	list := make([]Setting, len(knobs))
	for i := range knobs {
		list[i] = knobs[i].Setting
	}
	return list
}

// knob is a setting. set reads the value of its variable. check looks at the field,
// whether a variable or a program set it; nil means that every value is valid. The
// errors of both follow the name of the variable or field.
type knob struct {
	Setting
	set   func(c *Config, v string) error
	check func(c *Config) error
}

// knobs is the one place that knows the settings.
var knobs = []knob{
	{
		Setting{"Interfaces", "ONLOAD_INTERFACES", "names or PCI addresses separated by commas, auto, none", "none",
			"interfaces whose traffic is taken from the kernel; auto: all that are up and run XDP natively"},
		func(c *Config, v string) error { c.Interfaces = list(v); return nil },
		checkInterfaces,
	},
	{
		Setting{"Static", "ONLOAD_STATIC", "ADDRESS/BITS..., dhcp, slaac, PREFIX via GATEWAY, default via GATEWAY, dns SERVER, or tap NAME, after each PCI address; several separated by commas", "none",
			"addresses, routes and name servers of interfaces that are PCI addresses, or the TAP device by which the kernel has them"},
		func(c *Config, v string) error { c.Static = list(v); return nil },
		checkStatic,
	},
	{
		Setting{"Fallback", "ONLOAD_FALLBACK", "on, off", "on (in Config: off)",
			"leave an interface that cannot be opened to the kernel, instead of failing"},
		func(c *Config, v string) (err error) { c.Fallback, err = onOff(v); return err },
		nil,
	},
	{
		Setting{"NetNS", "ONLOAD_NETNS", "a path", "the process's own",
			"network namespace of the TCP and UDP sockets"},
		func(c *Config, v string) error { c.NetNS = v; return nil },
		nil,
	},
	{
		Setting{"Broker", "ONLOAD_BROKER", "a path, off", wire.DefaultSocket + ", if it is there",
			"socket of the broker that shares interfaces among processes"},
		func(c *Config, v string) error { c.Broker = v; return nil },
		nil,
	},
	{
		Setting{"Profile", "ONLOAD_PROFILE", "latency, balanced, throughput", "balanced",
			"how goroutines wait: spinning long, as long as it gets more done, not at all"},
		func(c *Config, v string) error {
			return choose(&c.Profile, v, map[string]Profile{"latency": Latency, "balanced": Balanced, "throughput": Throughput})
		},
		func(c *Config) error { return oneOf(c.Profile, Balanced, Latency, Throughput) },
	},
	{
		Setting{"Spin", "ONLOAD_SPIN", "a duration such as 50us, 0 for the default, off", "the profile's",
			"how long a goroutine polls the queues itself before it parks"},
		setSpin,
		nil,
	},
	{
		Setting{"Mode", "ONLOAD_XDP_MODE", "auto, native, generic", "auto",
			"where the XDP program runs: in the driver, or in the kernel's receive path"},
		func(c *Config, v string) error {
			return choose(&c.Mode, v, map[string]Mode{"auto": ModeAuto, "native": ModeNative, "generic": ModeGeneric})
		},
		func(c *Config) error { return oneOf(c.Mode, ModeAuto, ModeNative, ModeGeneric) },
	},
	{
		Setting{"ZeroCopy", "ONLOAD_ZEROCOPY", "auto, require, off", "auto",
			"whether the NIC reads and writes the frames itself"},
		func(c *Config, v string) error {
			return choose(&c.ZeroCopy, v, map[string]ZeroCopy{"auto": ZeroCopyAuto, "require": ZeroCopyRequire, "off": ZeroCopyOff})
		},
		func(c *Config) error { return oneOf(c.ZeroCopy, ZeroCopyAuto, ZeroCopyRequire, ZeroCopyOff) },
	},
	{
		Setting{"Queues", "ONLOAD_QUEUES", "numbers and ranges such as 0,2-3, at most 64 in all", "all",
			"receive queues to take, of each interface"},
		setQueues,
		checkQueues,
	},
	{
		Setting{"Stacks", "ONLOAD_STACKS", "a number from 1 to 64, 0 for the default, per-core", "1",
			"stacks that share the interfaces, each with a lock and queues of its own; per-core: as many as there are processors, and queues of each interface"},
		setStacks,
		checkStacks,
	},
	{
		Setting{"Frames", "ONLOAD_FRAMES", "a number from 16 for each queue to 16777216, 0 for the default", "8192, and 8192 more for each queue, as far as memory allows",
			"frames of packet memory per interface"},
		func(c *Config, v string) error { return number(&c.Frames, v) },
		checkFrames,
	},
	{
		Setting{"FrameSize", "ONLOAD_FRAME_SIZE", "2048, 4096, 0 for the default", "4096, or 2048 where only that gives zero-copy",
			"bytes of a frame"},
		func(c *Config, v string) error {
			return choose(&c.FrameSize, v, map[string]int{"0": 0, "2048": 2048, "4096": 4096})
		},
		func(c *Config) error { return oneOf(c.FrameSize, 0, 2048, 4096) },
	},
	{
		Setting{"RingSize", "ONLOAD_RING_SIZE", "a power of two from 64 to 65536, 0 for the default", "4096",
			"entries of each ring"},
		func(c *Config, v string) error { return number(&c.RingSize, v) },
		checkRing,
	},
	{
		Setting{"Offloads", "ONLOAD_OFFLOADS", "auto, checksum, off", "auto",
			"what is left to the device: checksums, and to segment packets larger than the MTU; checksums; nothing"},
		func(c *Config, v string) error {
			return choose(&c.Offloads, v, map[string]Offloads{"auto": OffloadsAuto, "checksum": OffloadsChecksum, "off": OffloadsOff})
		},
		func(c *Config) error { return oneOf(c.Offloads, OffloadsAuto, OffloadsChecksum, OffloadsOff) },
	},
	{
		Setting{"BusyPoll", "ONLOAD_BUSY_POLL", "a number of packets up to 65535", "0 (interrupts)",
			"most packets that one poll of the NIC handles; goroutines that spin then poll it by a system call each time they look"},
		func(c *Config, v string) error { return number(&c.BusyPoll, v) },
		checkBusyPoll,
	},
	{
		Setting{"NAPI", "ONLOAD_NAPI", "keep, defer, thread", "keep",
			"how the kernel polls a NIC's queues: as it does; with interrupts held back while goroutines poll (turns ONLOAD_BUSY_POLL on); by a thread for each (Linux 6.19)"},
		func(c *Config, v string) error {
			return choose(&c.NAPI, v, map[string]NAPI{"keep": NAPIKeep, "defer": NAPIDefer, "thread": NAPIThread})
		},
		func(c *Config) error { return oneOf(c.NAPI, NAPIKeep, NAPIDefer, NAPIThread) },
	},
	{
		Setting{"RcvBuf", "ONLOAD_RCVBUF", "bytes, with K or M, at most 1024M", "1M, growing to 6M on long paths; UDP 208K",
			"receive buffer of a connection"},
		func(c *Config, v string) error { return size(&c.RcvBuf, v) },
		func(c *Config) error { return within(c.RcvBuf, 0, maxBuffer) },
	},
	{
		Setting{"SndBuf", "ONLOAD_SNDBUF", "bytes, with K or M, at most 1024M", "1M, growing to 6M on long paths; UDP 208K",
			"send buffer of a connection"},
		func(c *Config, v string) error { return size(&c.SndBuf, v) },
		func(c *Config) error { return within(c.SndBuf, 0, maxBuffer) },
	},
	{
		Setting{"Congestion", "ONLOAD_CONGESTION", strings.Join(tcp.CongestionNames(), ", "), tcp.CongestionNames()[0],
			"TCP's congestion control"},
		func(c *Config, v string) error { c.Congestion = v; return nil },
		checkCongestion,
	},
	{
		Setting{"MTUProbing", "ONLOAD_MTU_PROBING", "blackhole, always, off", "blackhole",
			"when TCP searches for the path's MTU by itself: if large segments vanish, from the start, never"},
		func(c *Config, v string) error {
			return choose(&c.MTUProbing, v, map[string]MTUProbing{"blackhole": MTUProbeBlackHole, "always": MTUProbeAlways, "off": MTUProbeOff})
		},
		func(c *Config) error { return oneOf(c.MTUProbing, MTUProbeBlackHole, MTUProbeAlways, MTUProbeOff) },
	},
	{
		Setting{"ECN", "ONLOAD_ECN", "accept, on, off", "accept",
			"explicit congestion notification of TCP: if the peer asks for it, always, never"},
		func(c *Config, v string) error {
			return choose(&c.ECN, v, map[string]ECN{"accept": ECNAccept, "on": ECNOn, "off": ECNOff})
		},
		func(c *Config) error { return oneOf(c.ECN, ECNAccept, ECNOn, ECNOff) },
	},
	{
		Setting{"UserTimeout", "ONLOAD_USER_TIMEOUT", "a duration such as 30s, 0 for the default", "some 15 minutes",
			"how long data of TCP may stay unacknowledged before the connection fails"},
		func(c *Config, v string) error { return duration(&c.UserTimeout, v) },
		func(c *Config) error { return CheckTimeout(c.UserTimeout) },
	},
	{
		Setting{"MaxOrphans", "ONLOAD_MAX_ORPHANS", "a number", "16384",
			"closed TCP connections that may go on, over all interfaces that share a stack"},
		func(c *Config, v string) error { return number(&c.MaxOrphans, v) },
		func(c *Config) error { return within(c.MaxOrphans, 0, math.MaxInt32) },
	},
	{
		Setting{"MaxTimeWaits", "ONLOAD_MAX_TIME_WAITS", "a number", "131072",
			"TCP connections in TIME-WAIT, over all interfaces that share a stack"},
		func(c *Config, v string) error { return number(&c.MaxTimeWaits, v) },
		func(c *Config) error { return within(c.MaxTimeWaits, 0, math.MaxInt32) },
	},
	{
		Setting{"Guardian", "ONLOAD_GUARDIAN", "auto, self, off, or the path of the program onload", "auto",
			"process that resets the peers of this one if it dies: the program onload, beside this one or in PATH; this program, executed again; none"},
		func(c *Config, v string) error { return setGuardian(c, v, guardian.Elevated()) },
		checkGuardian,
	},
	{
		Setting{"Inspect", "ONLOAD_INSPECT", "on, off", "on",
			"whether the commands ps, ss, stat and their like of the program onload may ask this process, by its user and root"},
		func(c *Config, v string) error {
			return choose(&c.Inspect, v, map[string]Inspect{"on": InspectOn, "off": InspectOff})
		},
		func(c *Config) error { return oneOf(c.Inspect, InspectOn, InspectOff) },
	},
	{
		Setting{"Logger", "ONLOAD_LOG", "debug, info, warn, error, off", "warn",
			"level of the log on standard error"},
		setLog,
		nil,
	},
}

// ConfigFromEnv returns the Config that the ONLOAD_* variables ask for, as the
// engine behind the package-level functions uses it. The error names every variable
// that is unknown or cannot be understood.
func ConfigFromEnv() (Config, error) { return configFrom(os.Environ()) }

const envPrefix = "ONLOAD_"

func configFrom(environ []string) (Config, error) {
	c := Config{Fallback: true}
	var errs []error
	var read []func() // checks of what was read
	for _, kv := range environ {
		name, v, _ := strings.Cut(kv, "=")
		if !strings.HasPrefix(name, envPrefix) || v == "" {
			continue
		}
		i := slices.IndexFunc(knobs, func(k knob) bool { return k.Env == name })
		if i < 0 {
			errs = append(errs, unknownVariable(name))
			continue
		}
		k := &knobs[i]
		refuse := func(err error) {
			errs = append(errs, fmt.Errorf("onload: %s=%q: %w; valid: %s", name, v, err, k.Values))
		}
		if err := k.set(&c, v); err != nil {
			refuse(err)
			continue
		}
		if k.check != nil {
			read = append(read, func() {
				if err := k.check(&c); err != nil {
					refuse(err)
				}
			})
		}
	}
	// A check may look at a field that a later variable sets.
	for _, check := range read {
		check()
	}
	return c, errors.Join(errs...)
}

func unknownVariable(name string) error {
	var names []string
	for _, k := range knobs {
		names = append(names, k.Env)
	}
	hint := ""
	if near := similar.To(name, names); near != "" {
		hint = "did you mean " + near + "? "
	}
	return fmt.Errorf("onload: unknown variable %s: %sThe known ones are %s", name, hint, strings.Join(names, ", "))
}

// check validates the fields of c, which a program may have set.
func (c *Config) check() error {
	var errs []error
	for _, k := range knobs {
		if k.check == nil {
			continue
		}
		if err := k.check(c); err != nil {
			errs = append(errs, fmt.Errorf("onload: Config.%s: %w; valid: %s", k.Field, err, k.Values))
		}
	}
	return errors.Join(errs...)
}

// nameSetting returns err. If that is a device's refusal of a setting, it names the
// setting as Config and the environment do. wrong reports whether it is such a
// refusal.
func nameSetting(err error) (named error, wrong bool) {
	var e *driver.SettingError
	if !errors.As(err, &e) {
		return err, false
	}
	for _, k := range knobs {
		if k.Field == e.Field {
			return fmt.Errorf("invalid Config.%s (%s): %w; valid: %s", k.Field, k.Env, e.Err, k.Values), true
		}
	}
	return err, true
}

func list(v string) []string {
	var l []string
	for s := range strings.SplitSeq(v, ",") {
		l = append(l, strings.TrimSpace(s))
	}
	return l
}

// Names that stand for all fitting interfaces, and for none; the latter without a
// warning.
const (
	autoInterfaces = "auto"
	noInterfaces   = "none"
)

func checkInterfaces(c *Config) error {
	seen := map[string]bool{}
	for _, name := range c.Interfaces {
		switch {
		case name == autoInterfaces || name == noInterfaces:
			if len(c.Interfaces) > 1 {
				return fmt.Errorf("%q stands alone", name)
			}
		case name == "" || len(name) > maxName || strings.ContainsAny(name, "/ \t\n"):
			return fmt.Errorf("%q cannot be an interface", name)
		case seen[name]:
			return fmt.Errorf("%q is named twice", name)
		}
		seen[name] = true
	}
	return nil
}

func setSpin(c *Config, v string) error {
	if v == "off" {
		c.Spin = -1
		return nil
	}
	d, err := time.ParseDuration(v)
	if err != nil || d < 0 {
		return errors.New("not a duration, or a negative one")
	}
	c.Spin = d
	return nil
}

func duration(p *time.Duration, v string) error {
	d, err := time.ParseDuration(v)
	if err != nil || d < 0 {
		return errors.New("not a duration, or a negative one")
	}
	*p = d
	return nil
}

// CheckTimeout checks a user timeout: TCP counts in milliseconds, 31 bits of them.
func CheckTimeout(d time.Duration) error {
	if d < 0 || d > 0 && d < time.Millisecond || d > math.MaxInt32*time.Millisecond {
		return fmt.Errorf("%v is not from 1ms to 596h", d)
	}
	return nil
}

func setQueues(c *Config, v string) error {
	c.Queues = nil
	for part := range strings.SplitSeq(v, ",") {
		from, to, isRange := strings.Cut(strings.TrimSpace(part), "-")
		if !isRange {
			to = from
		}
		a, err1 := strconv.Atoi(from)
		b, err2 := strconv.Atoi(to)
		if err1 != nil || err2 != nil || a < 0 || b < a || b > maxQueue {
			return fmt.Errorf("%q is not a queue or a range of queues", part)
		}
		for q := a; q <= b; q++ {
			c.Queues = append(c.Queues, q)
		}
	}
	return nil
}

// maxQueue is the highest number of a queue, beyond what any driver has.
const maxQueue = 4095

func checkQueues(c *Config) error {
	seen := map[int]bool{}
	for _, q := range c.Queues {
		if q < 0 || q > maxQueue {
			return fmt.Errorf("queue %d is not from 0 to %d", q, maxQueue)
		}
		if seen[q] {
			return fmt.Errorf("queue %d is named twice", q)
		}
		seen[q] = true
	}
	if len(seen) > stack.MaxQueues {
		return fmt.Errorf("%d queues are named, at most %d can be taken", len(seen), stack.MaxQueues)
	}
	return nil
}

// checkFrames checks what holds for every interface: a queue wants 16 frames, an
// arena holds 1<<24.
func checkFrames(c *Config) error {
	if c.Frames == 0 {
		return nil
	}
	return within(c.Frames, 16*max(1, len(c.Queues)), 1<<24)
}

// checkBusyPoll bounds the budget: SO_BUSY_POLL_BUDGET has 16 bits.
func checkBusyPoll(c *Config) error { return within(c.BusyPoll, 0, math.MaxUint16) }

// leastRing is the least number of entries of a ring. A burst of 62 datagrams lost
// 24 with rings of 16.
const leastRing = 64

func checkRing(c *Config) error {
	if n := c.RingSize; n != 0 && (n < leastRing || n > 1<<16 || n&(n-1) != 0) {
		return fmt.Errorf("%d is not a power of two from %d to 65536", n, leastRing)
	}
	return nil
}

func setLog(c *Config, v string) error {
	if v == "off" {
		c.Logger = zap.NewNop()
		return nil
	}
	for _, l := range []zapcore.Level{zap.DebugLevel, zap.InfoLevel, zap.WarnLevel, zap.ErrorLevel} {
		if v == l.String() {
			c.Logger = newLogger(l)
			return nil
		}
	}
	return errors.New("not a level")
}

// newLogger logs to standard error in words rather than JSON, since the person who
// runs the program reads it.
func newLogger(l zapcore.Level) *zap.Logger {
	enc := zap.NewProductionEncoderConfig()
	enc.EncodeTime = zapcore.ISO8601TimeEncoder
	core := zapcore.NewCore(zapcore.NewConsoleEncoder(enc), zapcore.Lock(os.Stderr), l)
	return zap.New(core).Named("onload")
}

func choose[T any](p *T, v string, of map[string]T) error {
	x, ok := of[v]
	if !ok {
		return errors.New("no such choice")
	}
	*p = x
	return nil
}

func oneOf[T comparable](v T, of ...T) error {
	if !slices.Contains(of, v) {
		return fmt.Errorf("%v is no choice", v)
	}
	return nil
}

func checkCongestion(c *Config) error {
	if !tcp.ValidCongestion(c.Congestion) {
		return fmt.Errorf("%s is no choice", c.Congestion)
	}
	return nil
}

func onOff(v string) (bool, error) {
	switch v {
	case "on", "1", "true":
		return true, nil
	case "off", "0", "false":
		return false, nil
	}
	return false, errors.New("neither on nor off")
}

// number reads what the kernel and TCP count in an int32.
func number(p *int, v string) error {
	n, err := strconv.ParseUint(v, 10, 31)
	switch {
	case errors.Is(err, strconv.ErrRange):
		return errors.New("too large")
	case err != nil:
		return errors.New("not a number")
	}
	*p = int(n)
	return nil
}

// maxBuffer is the largest buffer of a connection, in bytes: what a window may be
// (RFC 7323 section 2.2).
const maxBuffer = 1 << 30

func size(p *int, v string) error {
	n := v
	shift := 0
	switch {
	case strings.HasSuffix(v, "K"):
		n, shift = v[:len(v)-1], 10
	case strings.HasSuffix(v, "M"):
		n, shift = v[:len(v)-1], 20
	}
	var x int
	if err := number(&x, n); err != nil || x > maxBuffer>>shift {
		return errors.New("not a size of at most 1024M")
	}
	*p = x << shift
	return nil
}

func within(v, least, most int) error {
	if v < least || v > most {
		return fmt.Errorf("%d is not from %d to %d", v, least, most)
	}
	return nil
}
