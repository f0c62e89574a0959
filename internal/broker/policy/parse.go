package policy

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"os/user"
	"slices"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"golang.org/x/sys/unix"
)

// file is the file as TOML has it.
type file struct {
	Allow []allow `toml:"allow"`
}

type allow struct {
	Users      []any    `toml:"users"`
	Groups     []any    `toml:"groups"`
	Interfaces []string `toml:"interfaces"`
	Addresses  []string `toml:"addresses"`
	Ports      []string `toml:"ports"`
	Memory     *string  `toml:"memory"`
	MaxPorts   *int64   `toml:"max-ports"`
	Processes  *int64   `toml:"processes"`
	Rate       *string  `toml:"rate"`
	Packets    *int64   `toml:"packets"`

	PacketRings bool `toml:"packet-rings"`
}

// Parse reads a policy.
func Parse(b []byte) (*Policy, error) {
	var f file
	d := toml.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&f); err != nil {
		if unknown := (*toml.StrictMissingError)(nil); errors.As(err, &unknown) && len(unknown.Errors) > 0 {
			e := &unknown.Errors[0]
			line, _ := e.Position()
			return nil, fmt.Errorf("line %d: there is no field %q", line, strings.Join(e.Key(), "."))
		}
		if e := (*toml.DecodeError)(nil); errors.As(err, &e) {
			line, _ := e.Position()
			return nil, fmt.Errorf("line %d: %w", line, err)
		}
		return nil, err
	}
	p := &Policy{}
	for i := range f.Allow {
		r, err := f.Allow[i].rule()
		if err != nil {
			return nil, fmt.Errorf("rule %d: %w", i+1, err)
		}
		p.rules = append(p.rules, r)
	}
	if len(p.rules) == 0 {
		return nil, errors.New("no [[allow]]: nobody would be allowed anything")
	}
	return p, nil
}

func (a *allow) rule() (r rule, err error) {
	r.Limits = Limits{Memory: DefaultMemory, Ports: DefaultPorts, Processes: DefaultProcesses, PacketRings: a.PacketRings}
	field := func(name string, e error) {
		if err == nil && e != nil {
			err = fmt.Errorf("%s: %w", name, e)
		}
	}
	var e error
	r.users, r.everybody, e = ids(a.Users, userID)
	field("users", e)
	groups, all, e := ids(a.Groups, groupID)
	r.groups, r.everybody = groups, r.everybody || all
	field("groups", e)
	if len(a.Users) == 0 && len(a.Groups) == 0 {
		field("users", errors.New(`neither users nor groups are named: "*" is everybody`))
	}
	r.interfaces = a.Interfaces
	if len(a.Interfaces) == 0 || slices.Contains(a.Interfaces, "") {
		field("interfaces", errors.New(`none is named: "*" is all that the broker has`))
	}
	r.addresses, e = each(a.Addresses, parseAddresses)
	field("addresses", e)
	r.ports, e = each(a.Ports, parsePorts)
	field("ports", e)
	field("memory", set(&r.Memory, a.Memory, parseMemory))
	field("rate", set(&r.RateBytes, a.Rate, parseRate))
	field("max-ports", count(&r.Ports, a.MaxPorts, math.MaxUint16))
	field("processes", count(&r.Processes, a.Processes, 4096))
	field("packets", count(&r.Packets, a.Packets, math.MaxInt64))
	return r, err
}

// set sets to if the file has the field.
func set[T any](to *T, from *string, parse func(string) (T, error)) (err error) {
	if from != nil {
		*to, err = parse(*from)
	}
	return err
}

func count[T int | uint64](to *T, from *int64, most int64) error {
	if from == nil {
		return nil
	}
	if *from < 1 || *from > most {
		return fmt.Errorf("%d: must be 1 to %d", *from, most)
	}
	*to = T(*from)
	return nil
}

func each[T any](words []string, parse func(string) (T, error)) (l []T, err error) {
	for _, w := range words {
		x, err := parse(w)
		if err != nil {
			return nil, err
		}
		l = append(l, x)
	}
	return l, nil
}

// ids reads users or groups, names or numbers; "*" is all.
func ids(from []any, find func(name string) (string, error)) (l []uint32, all bool, err error) {
	for _, x := range from {
		var text string
		switch x := x.(type) {
		case string:
			if x == "*" {
				all = true
				continue
			}
			text = x
			if _, err := strconv.ParseUint(x, 10, 32); err != nil {
				if text, err = find(x); err != nil {
					return nil, false, err
				}
			}
		case int64:
			text = strconv.FormatInt(x, 10)
		default:
			return nil, false, fmt.Errorf("%v: must be a name or a number", x)
		}
		id, err := strconv.ParseUint(text, 10, 32)
		if err != nil || id == math.MaxUint32 { // (uid_t)-1 is nobody's
			return nil, false, fmt.Errorf("%v: no such number", x)
		}
		l = append(l, uint32(id))
	}
	return l, all, nil
}

func userID(name string) (string, error) {
	u, err := user.Lookup(name)
	if err != nil {
		return "", err
	}
	return u.Uid, nil
}

func groupID(name string) (string, error) {
	g, err := user.LookupGroup(name)
	if err != nil {
		return "", err
	}
	return g.Gid, nil
}

// parseAddresses reads an address, or a prefix.
func parseAddresses(s string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" {
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return p, fmt.Errorf("%q is neither an address nor a prefix such as 192.0.2.0/24", s)
	}
	if p != p.Masked() {
		return p, fmt.Errorf("%q has bits behind the prefix: %v is meant?", s, p.Masked())
	}
	return p, nil
}

// parsePorts reads "tcp 80", "udp 1000-2000" or "tcp ephemeral".
func parsePorts(s string) (r portRange, err error) {
	wrong := fmt.Errorf(`%q is not like "tcp 80", "udp 1000-2000" or "tcp ephemeral"`, s)
	proto, ports, ok := strings.Cut(s, " ")
	switch proto {
	case "tcp":
		r.proto = unix.IPPROTO_TCP
	case "udp":
		r.proto = unix.IPPROTO_UDP
	default:
		return r, wrong
	}
	if !ok {
		return r, wrong
	}
	if ports == "ephemeral" {
		r.ephemeral = true
		return r, nil
	}
	low, high, ranged := strings.Cut(ports, "-")
	if !ranged {
		high = low
	}
	l, err1 := strconv.ParseUint(low, 10, 16)
	h, err2 := strconv.ParseUint(high, 10, 16)
	if err1 != nil || err2 != nil || l == 0 || l > h {
		return r, wrong
	}
	r.low, r.high = uint16(l), uint16(h)
	return r, nil
}

// quantity is a number with one of the units, largest first.
func quantity(s string, units []string, sizes []uint64) (uint64, bool) {
	for i, u := range units {
		if n, ok := strings.CutSuffix(s, u); ok {
			v, err := strconv.ParseUint(n, 10, 64)
			if err != nil || v == 0 || v > math.MaxInt64/sizes[i] {
				return 0, false
			}
			return v * sizes[i], true
		}
	}
	return 0, false
}

func parseMemory(s string) (int64, error) {
	v, ok := quantity(s, []string{"GiB", "MiB", "KiB"}, []uint64{1 << 30, 1 << 20, 1 << 10})
	if !ok {
		return 0, fmt.Errorf(`%q is not like "64MiB", "512KiB" or "1GiB"`, s)
	}
	return int64(v), nil
}

// parseRate returns bytes in a second.
func parseRate(s string) (uint64, error) {
	v, ok := quantity(s, []string{"Gbit", "Mbit", "kbit"}, []uint64{1e9 / 8, 1e6 / 8, 1e3 / 8})
	if !ok {
		return 0, fmt.Errorf(`%q is not like "1Gbit", "100Mbit" or "500kbit"`, s)
	}
	return v, nil
}
