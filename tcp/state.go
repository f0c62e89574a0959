package tcp

// State is a state of RFC 9293 section 3.3.2. LISTEN is not among them: it
// belongs to Listener.
type State uint8

// The states of a connection.
const (
	Closed State = iota
	SynSent
	SynReceived
	Established
	FinWait1
	FinWait2
	CloseWait
	Closing
	LastAck
	TimeWaiting
)

var stateNames = [...]string{"CLOSED", "SYN-SENT", "SYN-RECEIVED", "ESTABLISHED",
	"FIN-WAIT-1", "FIN-WAIT-2", "CLOSE-WAIT", "CLOSING", "LAST-ACK", "TIME-WAIT"}

func (s State) String() string {
	if int(s) < len(stateNames) {
		return stateNames[s]
	}
	return "invalid"
}

// sending reports whether the send queue may hold something to transmit.
func (s State) sending() bool {
	return s == Established || s == CloseWait || s == FinWait1 || s == Closing || s == LastAck
}

// receiving reports whether the peer may still send data.
func (s State) receiving() bool {
	return s == Established || s == FinWait1 || s == FinWait2
}
