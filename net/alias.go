package onload

import "net"

// The types of net that carry no TCP or UDP.
type (
	// Addr is net.Addr.
	Addr = net.Addr
	// AddrError is net.AddrError.
	AddrError = net.AddrError
	// Conn is net.Conn.
	Conn = net.Conn
	// DNSConfigError is net.DNSConfigError.
	DNSConfigError = net.DNSConfigError
	// DNSError is net.DNSError.
	DNSError = net.DNSError
	// Error is net.Error.
	Error = net.Error
	// Flags is net.Flags.
	Flags = net.Flags
	// HardwareAddr is net.HardwareAddr.
	HardwareAddr = net.HardwareAddr
	// IP is net.IP.
	IP = net.IP
	// IPAddr is net.IPAddr.
	IPAddr = net.IPAddr
	// IPConn is net.IPConn.
	IPConn = net.IPConn
	// IPMask is net.IPMask.
	IPMask = net.IPMask
	// IPNet is net.IPNet.
	IPNet = net.IPNet
	// Interface is net.Interface.
	Interface = net.Interface
	// InvalidAddrError is net.InvalidAddrError.
	InvalidAddrError = net.InvalidAddrError
	// KeepAliveConfig is net.KeepAliveConfig.
	KeepAliveConfig = net.KeepAliveConfig
	// Listener is net.Listener.
	Listener = net.Listener
	// MX is net.MX.
	MX = net.MX
	// NS is net.NS.
	NS = net.NS
	// OpError is net.OpError.
	OpError = net.OpError
	// PacketConn is net.PacketConn.
	PacketConn = net.PacketConn
	// ParseError is net.ParseError.
	ParseError = net.ParseError
	// Resolver is net.Resolver.
	Resolver = net.Resolver
	// SRV is net.SRV.
	SRV = net.SRV
	// TCPAddr is net.TCPAddr.
	TCPAddr = net.TCPAddr
	// UDPAddr is net.UDPAddr.
	UDPAddr = net.UDPAddr
	// UnixAddr is net.UnixAddr.
	UnixAddr = net.UnixAddr
	// UnixConn is net.UnixConn.
	UnixConn = net.UnixConn
	// UnixListener is net.UnixListener.
	UnixListener = net.UnixListener
	// UnknownNetworkError is net.UnknownNetworkError.
	UnknownNetworkError = net.UnknownNetworkError
)

// The constants of net.
const (
	FlagBroadcast    = net.FlagBroadcast
	FlagLoopback     = net.FlagLoopback
	FlagMulticast    = net.FlagMulticast
	FlagPointToPoint = net.FlagPointToPoint
	FlagRunning      = net.FlagRunning
	FlagUp           = net.FlagUp
	IPv4len          = net.IPv4len
	IPv6len          = net.IPv6len
)

// The variables of net. This package's Dialer resolves names with DefaultResolver;
// setting it does not change net's.
var (
	DefaultResolver            = net.DefaultResolver
	ErrClosed                  = net.ErrClosed
	ErrWriteToConnected        = net.ErrWriteToConnected
	IPv4allrouter              = net.IPv4allrouter
	IPv4allsys                 = net.IPv4allsys
	IPv4bcast                  = net.IPv4bcast
	IPv4zero                   = net.IPv4zero
	IPv6interfacelocalallnodes = net.IPv6interfacelocalallnodes
	IPv6linklocalallnodes      = net.IPv6linklocalallnodes
	IPv6linklocalallrouters    = net.IPv6linklocalallrouters
	IPv6loopback               = net.IPv6loopback
	IPv6unspecified            = net.IPv6unspecified
	IPv6zero                   = net.IPv6zero
)
