package control

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/internal/netns"
)

// Kernel mirrors a network namespace.
type Kernel struct {
	mirror
	log *zap.Logger

	monitor *monitor
	dumper  *dumper // of the mirror's goroutine

	routes   asker // for callers of Route and Accepts
	sources  sourceFiles
	verdicts verdicts
	settings linkSettings
	cache    routeCache
	expiry   expiry

	requester *netlink.Handle // of the goroutine that serves requests

	requests  neighborRequests
	helper    atomic.Pointer[func(link int, addr netip.Addr) error] // nil: none
	solicitor solicitor                                             // of the goroutine that serves requests

	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup

	closeOnce sync.Once
}

var _ Network = (*Kernel)(nil)

// NewKernel starts a mirror of ns, which may be the zero Handle and need not
// stay open. The first snapshot is complete when it returns.
func NewKernel(ns netns.Handle, log *zap.Logger) (*Kernel, error) {
	if log == nil {
		log = zap.NewNop()
	}
	k := &Kernel{log: log, solicitor: solicitor{fd: -1}, routes: asker{fd: -1}}
	k.ctx, k.cancel = context.WithCancel(context.Background())
	k.init()
	k.requests.init()
	k.cache.init()
	k.verdicts.init()
	if err := ns.Do(k.open); err != nil {
		k.release()
		return nil, err
	}
	// Subscribing comes before dumping, so that no change is missed.
	if err := k.resync(); err != nil {
		k.release()
		return nil, err
	}
	k.wg.Go(k.follow)
	k.wg.Go(k.serveNeighbors)
	return k, nil
}

// open makes the sockets, inside the namespace.
func (k *Kernel) open() (err error) {
	if k.monitor, err = newMonitor(); err != nil {
		return err
	}
	if k.dumper, err = newDumper(); err != nil {
		return err
	}
	k.solicitor.open()
	k.sources.open()
	k.settings.open()
	if err = k.routes.open(); err != nil {
		return err
	}
	k.requester, err = netlink.NewHandle(unix.NETLINK_ROUTE)
	return os.NewSyscallError("netlink", err)
}

func (k *Kernel) release() {
	k.cancel()
	k.expiry.stop()
	if k.monitor != nil {
		k.monitor.close()
	}
	k.wg.Wait()
	k.routes.close()
	if k.requester != nil {
		k.requester.Close()
	}
	if k.dumper != nil {
		k.dumper.close()
	}
	k.solicitor.close()
	k.sources.close()
	k.settings.close()
}

// Close ends the mirror. The last snapshot remains readable. Close must not be
// called by a subscriber.
func (k *Kernel) Close() error {
	k.closeOnce.Do(k.release)
	return nil
}

// bare strips what a library wrapped around an errno.
func bare(err error) error {
	var no syscall.Errno
	if errors.As(err, &no) {
		return no
	}
	return err
}

// dumpGap is the least time between two dumps, so that a storm of changes
// costs a bounded share of a processor: four times as long as a dump takes.
const dumpGap = 5 * time.Millisecond

// settingsGap is the time between two looks at the settings of multipath routes,
// where there are any.
const settingsGap = 500 * time.Millisecond

// follow is the mirror's goroutine.
func (k *Kernel) follow() {
	var dirty, lost bool
	var next time.Time // no dump before
	for {
		var wake time.Time
		if dirty {
			wake = next
		} else if k.dumper.watch {
			wake = time.Now().Add(settingsGap)
		}
		news, err := k.monitor.read(wake)
		switch {
		case err == nil:
			dirty = dirty || news.tables
			if news.settings {
				k.dumper.settled++
			}
			k.hear(news.neighbors, false)
		case errors.Is(err, os.ErrDeadlineExceeded):
			dirty = dirty || k.dumper.watch && k.dumper.settingsChanged()
		case errors.Is(err, unix.ENOBUFS):
			k.log.Info("netlink overrun, reading everything again")
			lost = true
			k.dumper.settled++
		case k.ctx.Err() != nil:
			return
		default:
			k.log.Warn("netlink", zap.Error(err))
			lost = true
			time.Sleep(dumpGap)
		}
		if !dirty && !lost {
			continue
		}
		start := time.Now()
		if start.Before(next) {
			dirty = true
			continue
		}
		if lost {
			err = k.resync()
		} else {
			err = k.refresh()
		}
		if k.ctx.Err() != nil {
			return
		}
		end := time.Now()
		next = end.Add(max(dumpGap, 4*end.Sub(start)))
		if dirty = err != nil; dirty {
			k.log.Warn("netlink dump", zap.Error(err))
		} else {
			lost = false
		}
	}
}

// refresh reads links, addresses and routes, and publishes the changes.
func (k *Kernel) refresh() error {
	v, err := k.dumper.view()
	if err != nil {
		return err
	}
	k.publish(v)
	return nil
}

// resync is refresh with the neighbours, which otherwise are kept by events.
func (k *Kernel) resync() error {
	if err := k.refresh(); err != nil {
		return err
	}
	events, err := k.dumper.neighbors()
	if err != nil {
		return err
	}
	k.hear(events, true)
	return nil
}
