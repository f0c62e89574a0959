// Package inspect answers questions about this process to its user and to root, by a Unix
// socket in the file system. Commands such as `onload ss` ask them (package
// internal/inspect/ask).
//
// # The socket
//
// A process has one socket, from its first engine on until the last one is closed. Its
// name is PID-RANDOM.sock. It lies in the first of these folders that can be had:
//
//	/run/onload/inspect        of root
//	$XDG_RUNTIME_DIR/onload    of others
//	/tmp/onload-UID            of everybody
//
// The folder belongs to the user alone (0700), and so does the socket (0600). A peer is
// root or the process's user (SO_PEERCRED); others are refused. In a container whose users
// are mapped (user namespaces) root of the host is such a stranger.
//
// # The protocol
//
// A connection has one request: a line of JSON, at most 64 KiB.
//
//	{"version":1,"kind":"status","args":{...}}
//
// The answer is lines of JSON: any number with data, then one that ends it. An answer
// without that last line was cut short.
//
//	{"data":...}
//	{"end":true} or {"error":"..."}
//
// Descriptors may accompany a request and each line of data (SCM_RIGHTS).
package inspect

// Version is that of the protocol. A request of another one is refused.
const Version = 1

// envelope is a request.
type envelope struct {
	Version int    `json:"version"`
	Kind    string `json:"kind"`
	Args    raw    `json:"args,omitempty"`
}

// Line is a line of an answer: Data, or one of the two others, which end it.
type Line struct {
	Data  raw    `json:"data,omitempty"`
	End   bool   `json:"end,omitempty"`
	Error string `json:"error,omitempty"`
}
