// Command client is many users of one server at once, who check what they get: for
// tests of released programs (cmd/onload). It knows nothing of Onload.
//
//	client -kind KIND [-users N] [-renew N] [-for DURATION] [-requests N] [-file NAME] TARGET...
//
// Each user has a connection, asks again when there was an answer, and asks the targets
// in turn; with -renew it opens a new connection after so many requests. Standard output
// is a report, as JSON.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"time"
)

// session is one user's connection.
type session interface {
	ask(target string) error
	close()
}

// kinds are the protocols. Each function opens the session of the n-th user.
var kinds = map[string]func(o *options, n int) (session, error){
	"http1": openHTTP1, "http2": openHTTP2, "http3": openHTTP3,
	"dns-udp": openDNS("udp"), "dns-tcp": openDNS("tcp"),
	"websocket": openWebSocket, "nats": openNATS, "redis": openRedis, "postgres": openPostgres,
}

// options are what the flags ask for.
type options struct {
	kind     string
	users    int
	renew    int
	duration time.Duration
	requests int64
	want     []byte // the answer; nil: any
	targets  []string
}

// patience is how long an answer may take: a user who waits longer has met a stall.
const patience = 30 * time.Second

// unique is a name for the n-th user's own things. What a client that was killed asked
// for may be done later, while another client is at work.
func unique(n int) string { return fmt.Sprintf("user%dx%x", n, rand.Uint64()) }

func main() {
	o, err := parse()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	if err := json.NewEncoder(os.Stdout).Encode(run(o)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func parse() (*options, error) {
	o := &options{}
	names := strings.Join(slices.Sorted(maps.Keys(kinds)), ", ")
	flag.StringVar(&o.kind, "kind", "", "protocol: "+names)
	flag.IntVar(&o.users, "users", 1, "how many ask at once")
	flag.IntVar(&o.renew, "renew", 0, "requests for each connection (0: any number)")
	flag.DurationVar(&o.duration, "for", time.Minute, "how long to ask")
	flag.Int64Var(&o.requests, "requests", 0, "how many requests to make (0: any number)")
	file := flag.String("file", "", "a file with the answer that all requests should get")
	flag.Parse()
	if o.targets = flag.Args(); len(o.targets) == 0 || kinds[o.kind] == nil {
		return nil, fmt.Errorf("usage: client -kind KIND TARGET...; kinds are %s", names)
	}
	if *file == "" {
		return o, nil
	}
	var err error
	o.want, err = os.ReadFile(*file)
	return o, err
}

var errAnswer = errors.New("the answer is not what was asked for")
