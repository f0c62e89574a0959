package claim

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// child makes the socket of a case, passes it, and waits for the other side to close.
func child(name string) {
	var id unix.CapUserData
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	both := [2]unix.CapUserData{}
	must(unix.Capget(&hdr, &both[0]))
	if id = both[0]; os.Getuid() != 65534 || id.Effective != 0 {
		must(fmt.Errorf("user %d with capabilities %#x", os.Getuid(), id.Effective))
	}
	name, goes := strings.CutSuffix(name, ", then it goes")
	fd := makeSocket(strings.TrimSuffix(name, ", again and again"))
	const pair = 4 // after the program's own file, see lab.Nobody
	must(unix.Sendmsg(pair, []byte{1}, unix.UnixRights(fd), nil, 0))
	if strings.HasSuffix(name, ", again and again") {
		listenInVain(fd, pair)
		return
	}
	_, _ = unix.Read(pair, make([]byte, 1))
	if !goes {
		return
	}
	// Each may fail: the sockets are different.
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
	_ = disconnect(fd)
	_ = unix.Listen(fd, 1)
	_ = unix.Shutdown(fd, unix.SHUT_RDWR)
	_ = unix.Bind(fd, &unix.SockaddrInet4{Port: 7999})
}

// listenInVain has a socket listen that cannot, until the other side closes.
func listenInVain(fd, pair int) {
	ended := make(chan struct{})
	go func() {
		_, _ = unix.Read(pair, make([]byte, 1))
		close(ended)
	}()
	for {
		select {
		case <-ended:
			return
		default:
		}
		if err := unix.Listen(fd, 1); err != unix.EADDRINUSE {
			must(fmt.Errorf("a port that another socket has: %w", err))
		}
	}
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "child:", err)
		os.Exit(1)
	}
}

func open(family, typ, proto int) int {
	fd, err := unix.Socket(family, typ|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, proto)
	must(err)
	return fd
}

func set(fd, level, option, v int) { must(unix.SetsockoptInt(fd, level, option, v)) }

var (
	lo     = [4]byte{127, 0, 0, 1}
	lo6    = [16]byte{15: 1}
	mapped = [16]byte{10: 0xff, 11: 0xff, 12: 127, 15: 1}
)

func at(port int) *unix.SockaddrInet4 { return &unix.SockaddrInet4{Port: port, Addr: lo} }

// makeSocket makes the socket of a case.
func makeSocket(name string) int {
	name = strings.TrimSuffix(name, " of another netns")
	if strings.HasPrefix(name, "udp") {
		return makeUDP(name)
	}
	tcp := func() int { return open(unix.AF_INET, unix.SOCK_STREAM, 0) }
	switch name {
	case "unix":
		return open(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	case "a pipe":
		var p [2]int
		must(unix.Pipe2(p[:], unix.O_CLOEXEC))
		return p[0]
	case "netlink":
		return open(unix.AF_NETLINK, unix.SOCK_RAW, 0)
	case "unbound":
		return tcp()
	case "tcp":
		fd := tcp()
		must(unix.Bind(fd, at(7000)))
		return fd
	case "tcp any":
		fd := tcp()
		must(unix.Bind(fd, &unix.SockaddrInet4{Port: 7000}))
		return fd
	case "tcp of no number":
		fd := tcp()
		must(unix.Bind(fd, at(0)))
		return fd
	case "tcp both", "tcp6 only", "tcp mapped":
		fd := open(unix.AF_INET6, unix.SOCK_STREAM, 0)
		only, sa := 0, &unix.SockaddrInet6{Port: 7000}
		if name == "tcp6 only" {
			only = 1
		}
		if name == "tcp mapped" {
			sa.Addr = mapped
		}
		set(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, only)
		must(unix.Bind(fd, sa))
		return fd
	case "tcp any, SO_REUSEADDR no more":
		fd := tcp()
		set(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
		must(unix.Bind(fd, &unix.SockaddrInet4{Port: 7000}))
		set(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 0)
		return fd
	case "tcp any, listens", "tcp6 only, listens":
		fd := makeSocket(strings.TrimSuffix(name, ", listens"))
		must(unix.Listen(fd, 10))
		return fd
	case "tcp listens":
		fd := makeSocket("tcp")
		must(unix.Listen(fd, 10))
		return fd
	case "tcp, SO_REUSEADDR no more", "tcp listens, SO_REUSEADDR":
		fd := tcp()
		set(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
		must(unix.Bind(fd, at(7000)))
		if name == "tcp listens, SO_REUSEADDR" {
			must(unix.Listen(fd, 10))
		} else {
			set(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 0)
		}
		return fd
	case "mptcp listens":
		fd := open(unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_MPTCP)
		must(unix.Bind(fd, at(7000)))
		must(unix.Listen(fd, 10))
		return fd
	case "tcp listens, no number, SO_REUSEADDR": // as Go's net does
		fd := open(unix.AF_INET6, unix.SOCK_STREAM, 0)
		set(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 0)
		set(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
		must(unix.Bind(fd, &unix.SockaddrInet6{}))
		must(unix.Listen(fd, 10))
		return fd
	}
	return makeBad(name)
}

func makeUDP(name string) int {
	udp := func() int { return open(unix.AF_INET, unix.SOCK_DGRAM, 0) }
	fd, port := -1, 7000
	switch name {
	case "udp6":
		fd = open(unix.AF_INET6, unix.SOCK_DGRAM, 0)
		must(unix.Bind(fd, &unix.SockaddrInet6{Port: port, Addr: lo6}))
		return fd
	case "udplite":
		fd = open(unix.AF_INET, unix.SOCK_DGRAM, unix.IPPROTO_UDPLITE)
	case "udp of no number", "udp locked":
		fd, port = udp(), 0
	default:
		fd = udp()
	}
	switch name {
	case "udp shared":
		set(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	case "udp SO_REUSEPORT":
		set(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
	}
	must(unix.Bind(fd, at(port)))
	switch name {
	case "udp locked":
		must(Lock(fd))
	case "udp connected":
		must(unix.Connect(fd, at(9)))
	case "udp was connected":
		must(unix.Connect(fd, at(9)))
		must(disconnect(fd))
	}
	return fd
}

// makeBad makes a TCP socket that is to be refused.
func makeBad(name string) int {
	fd := open(unix.AF_INET, unix.SOCK_STREAM, 0)
	switch name {
	case "tcp connected":
		l := makeSocket("tcp listens")
		must(unix.Bind(fd, at(7001)))
		if err := unix.Connect(fd, at(7000)); err != unix.EINPROGRESS {
			must(err)
		}
		_ = l
	case "tcp being connected":
		must(unix.Bind(fd, at(7002)))
		// A listener whose queue is full answers no SYN.
		l := open(unix.AF_INET, unix.SOCK_STREAM, 0)
		must(unix.Bind(l, at(7003)))
		must(unix.Listen(l, 0))
		for range 3 {
			_ = unix.Connect(open(unix.AF_INET, unix.SOCK_STREAM, 0), at(7003))
		}
		if err := unix.Connect(fd, at(7003)); err != unix.EINPROGRESS {
			must(err)
		}
	case "tcp of a device":
		must(unix.Bind(fd, at(7000)))
		must(unix.BindToDevice(fd, "lo"))
	case "tcp SO_REUSEPORT":
		set(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
		must(unix.Bind(fd, at(7000)))
	case "tcp shared":
		set(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
		must(unix.Bind(fd, at(7000)))
	case "tcp lost its port", "tcp lost, other's", "tcp lost, other's, no second":
		if name == "tcp lost, other's, no second" {
			// Of the kernel's range only this one: so the socket gets no other.
			const ipLocalPortRange, port = 51, 40000 // IP_LOCAL_PORT_RANGE, Linux 6.3
			set(fd, unix.IPPROTO_IP, ipLocalPortRange, port<<16|port)
		}
		must(unix.Bind(fd, at(0)))
		must(unix.Listen(fd, 1))
		sa, err := unix.Getsockname(fd)
		must(err)
		must(unix.Shutdown(fd, unix.SHUT_RDWR))
		if name != "tcp lost its port" {
			other := open(unix.AF_INET, unix.SOCK_STREAM, 0)
			must(unix.Bind(other, sa))
			must(unix.Listen(other, 1))
		}
		if now, err := unix.Getsockname(fd); err != nil || now.(*unix.SockaddrInet4).Port != sa.(*unix.SockaddrInet4).Port {
			must(fmt.Errorf("the socket shows %v, %v", now, err))
		}
	case "tcp link-local":
		fd = open(unix.AF_INET6, unix.SOCK_STREAM, 0)
		must(unix.Bind(fd, &unix.SockaddrInet6{Port: 7000, Addr: [16]byte{0xfe, 0x80, 15: 1}, ZoneId: 1}))
	default:
		must(fmt.Errorf("no such case: %q", name))
	}
	return fd
}
