package afxdp

import (
	"fmt"
	"sync/atomic"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/ring"
)

// An AF_XDP socket transmits past the link's queueing discipline. If an
// administrator has set one, everything leaves by a packet socket instead. So a
// shaper is obeyed, and no packet overtakes another that is held in it.

// qdiscBuffer bounds the packets that may wait in a discipline, in bytes as the
// kernel charges them: half of what a socket of the kernel's may have by default.
// When it is full TxBatch refuses, so that a sender waits rather than loses
// packets.
const qdiscBuffer = 256 << 10

// ruled reports whether packets have to pass the link's queueing discipline.
// Virtual links have none by themselves. On hardware the disciplines that the
// kernel sets by itself are bypassed, since they only share the link out.
func (l *linkInfo) ruled() bool {
	switch l.qdisc {
	case "", "noqueue", "noop":
		return false
	case "mq", "pfifo_fast", "fq_codel", "fq":
		return l.virtual()
	}
	return true
}

// followQdisc has packets pass the link's queueing discipline as long as it has
// one. It opens the packet socket for that before there is a discipline, since the
// process may lose its privileges.
func (d *Device) followQdisc(c *Config, l *linkInfo) {
	n, err := openLane(l, qdiscBuffer)
	if err == nil {
		d.qdisc = n.fd
		for _, q := range d.queues.all() {
			d.laneOf(q)
		}
		err = d.watch.open(unix.NETLINK_ROUTE, unix.RTNLGRP_TC)
	}
	if err != nil {
		c.Log.Warn("afxdp: queueing disciplines are passed by", zap.String("interface", l.name), zap.Error(err))
		return
	}
	look := func() error {
		now, err := lookupLink(fmt.Sprint(d.index))
		if err == nil {
			d.obey(now)
		}
		return err
	}
	if err := look(); err != nil { // again: one may have come before the watch
		d.obey(l)
	}
	d.watch.run(d.isQdisc, func() { _ = d.inNS(look) }) // an interface that is gone has none
}

// laneOf gives a queue that transmits its way through the queueing discipline.
func (d *Device) laneOf(q *Queue) {
	if q.txSize > 0 && d.qdisc >= 0 {
		q.qdisc = newLane(d.qdisc)
	}
}

// isQdisc reports whether a netlink message is about a queueing discipline of
// the interface, whose number is at byte 4 of struct tcmsg.
func (d *Device) isQdisc(typ uint16, body []byte) bool {
	return (typ == unix.RTM_NEWQDISC || typ == unix.RTM_DELQDISC) && len(body) >= 8 && int(native.Uint32(body[4:])) == d.index
}

// obey has packets pass the link's queueing discipline, or bypass it again.
func (d *Device) obey(l *linkInfo) {
	now := l.ruled()
	if d.ruled.Swap(now) == now {
		return
	}
	for _, q := range d.queues.all() {
		q.ruled.Store(now && q.qdisc != nil)
	}
	d.log.Info("afxdp: queueing discipline", zap.String("interface", d.name), zap.String("is", l.qdisc), zap.Bool("obeyed", now))
}

// txQdisc is TxBatch through the link's queueing discipline.
func (q *Queue) txQdisc(ds []ring.Desc) (done int) {
	if q.dead.Load() {
		return 0
	}
	if q.txProd != atomic.LoadUint32(q.tx.cons) {
		// These are from before there was a discipline. They leave first.
		if q.Kick() != nil {
			return 0
		}
		q.Reclaim()
	}
	for done < len(ds) {
		n, total := ring.PacketLen(ds[done:])
		pkt := ds[done : done+n]
		if !q.sendable(pkt) || !q.qdisc.prepare(q.arena, pkt) {
			q.stats.txInvalid.Add(1)
			done += n
			continue
		}
		e := sendMsg(q.qdisc.fd, &q.qdisc.msg)
		q.stats.kicks.Add(1)
		switch e {
		case 0:
			q.stats.txPackets.Add(1)
			q.stats.txBytes.Add(uint64(total))
		case unix.EAGAIN, unix.EINTR:
			q.stats.txRefused.Add(1)
			return done
		default:
			// ENOBUFS: the discipline dropped it. ENETDOWN: the link is down. Either
			// way it is lost as on a wire.
			q.stats.kickErrors.Add(1)
			if gone(e) {
				q.failGone(e)
				return done
			}
		}
		done += n
	}
	return done
}
