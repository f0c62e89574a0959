package interop

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// serveRESP serves what redis-benchmark asks of a Redis: PING, SET and GET.
func serveRESP(t testing.TB, l net.Listener) {
	var store sync.Map
	var all sync.WaitGroup
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer c.Close()
				if err := answerRESP(c, &store); err != nil {
					t.Error(err)
				}
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		all.Wait()
	})
}

func answerRESP(c net.Conn, store *sync.Map) error {
	r, w := bufio.NewReader(c), bufio.NewWriter(c)
	for {
		args, err := readCommand(r)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		switch strings.ToUpper(args[0]) {
		case "PING":
			w.WriteString("+PONG\r\n")
		case "SET":
			store.Store(args[1], args[2])
			w.WriteString("+OK\r\n")
		case "GET":
			if v, ok := store.Load(args[1]); ok {
				writeBulk(w, v.(string))
			} else {
				w.WriteString("$-1\r\n")
			}
		default:
			fmt.Fprintf(w, "-ERR unknown command '%s'\r\n", args[0])
		}
		if r.Buffered() == 0 { // else more of a pipeline is there
			if err := w.Flush(); err != nil {
				return err
			}
		}
	}
}

func writeBulk(w *bufio.Writer, s string) {
	w.WriteString("$" + strconv.Itoa(len(s)) + "\r\n" + s + "\r\n")
}

func readLine(r *bufio.Reader) (string, error) {
	s, err := r.ReadString('\n')
	return strings.TrimSuffix(s, "\r\n"), err
}

// readCommand reads an array of bulk strings, or an inline command.
func readCommand(r *bufio.Reader) ([]string, error) {
	line, err := readLine(r)
	if err != nil {
		return nil, err
	}
	if !strings.HasPrefix(line, "*") {
		return strings.Fields(line), nil
	}
	n, err := strconv.Atoi(line[1:])
	if err != nil {
		return nil, err
	}
	args := make([]string, n)
	for i := range args {
		if args[i], err = readReply(r); err != nil {
			return nil, err
		}
	}
	return args, nil
}

// readReply reads a bulk string, or another reply as it stands.
func readReply(r *bufio.Reader) (string, error) {
	line, err := readLine(r)
	if err != nil || !strings.HasPrefix(line, "$") {
		return line, err
	}
	n, err := strconv.Atoi(line[1:])
	if err != nil || n < 0 {
		return line, err
	}
	b := make([]byte, n+2)
	if _, err := io.ReadFull(r, b); err != nil {
		return "", err
	}
	if !bytes.HasSuffix(b, []byte("\r\n")) {
		return "", errors.New("a bulk string without its end")
	}
	return string(b[:n]), nil
}

// setAndGet sets n keys in a pipeline, then gets them and checks the values.
func setAndGet(c net.Conn, prefix string, n int) error {
	const batch = 1000
	r, w := bufio.NewReader(c), bufio.NewWriterSize(c, 64<<10)
	value := func(i int) string { return strings.Repeat(strconv.Itoa(i)+".", 1+i%60) }
	command := func(args ...string) {
		fmt.Fprintf(w, "*%d\r\n", len(args))
		for _, a := range args {
			writeBulk(w, a)
		}
	}
	for _, get := range []bool{false, true} {
		for first := 0; first < n; first += batch {
			for i := first; i < first+batch; i++ {
				if key := prefix + strconv.Itoa(i); get {
					command("GET", key)
				} else {
					command("SET", key, value(i))
				}
			}
			if err := w.Flush(); err != nil {
				return err
			}
			for i := first; i < first+batch; i++ {
				want := "+OK"
				if get {
					want = value(i)
				}
				if got, err := readReply(r); err != nil || got != want {
					return fmt.Errorf("key %d: %q, want %q (%v)", i, got, want, err)
				}
			}
		}
	}
	return nil
}
