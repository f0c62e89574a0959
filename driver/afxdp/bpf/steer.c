//go:build ignore

// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// Decides for every received frame whose it is. Those of the process that has the
// interface's queues are redirected to the AF_XDP socket of their queue. Those of a
// process that has a link (internal/broker/nicshare) are redirected to that. All
// others are passed to the kernel.
//
// Lookup order: the exact flow, then (protocol, local address, port), then
// (protocol, any address of the family, port). An ICMP error is looked up by
// the packet that it quotes. A fragment follows its first fragment. A fragment that
// overtook its first goes to the stack if a port of ours has its address. The stack
// keeps it until the first comes, and gives it back if the datagram is the kernel's.
// A datagram to a multicast group is ours only by the group's own port entry. The
// kernel gets every packet that the program does not understand.

#include <linux/bpf.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "headers.h"
#include "table.h"

#define ETHERNET_MTU 1500

#define MAX_TAGS 2
#define MAX_EXT 6 /* IPv6 extension headers */

// The fragments of a datagram come within this time of each other. It is short, since
// identifications of IPv4 are soon used again (RFC 4963). A fragment that comes later
// is taken for one of the next datagram that overtook its first.
#define FRAG_TTL_NS (1000000000ULL)

struct frag_key {
	struct addr src, dst;
	__u32 id;
	__u8 proto; /* IPv4 only: RFC 8200 identifies without */
	__u8 family;
	__u16 pad;
};

// The owner of a datagram's fragments.
struct frag_state {
	__u64 seen; /* time of the last fragment, ns */
	__u32 whose; /* enum owner */
	__u32 pad;
};

// Keep in step with Counters in steer.go.
enum counter {
	REDIRECTED,
	PASS_NOT_IP,    /* ARP and other protocols */
	PASS_PROTO,     /* neither TCP nor UDP nor an ICMP error */
	PASS_MALFORMED, /* cut short or inconsistent */
	PASS_FRAGMENT,  /* the first was the kernel's, or no port of ours has the address */
	PASS_NO_PORT,   /* no entry */
	PASS_FLOW,      /* flow entry: the kernel's */
	PASS_NO_SOCKET, /* ours, but no socket on this queue */
	REDIRECT_ICMP,  /* of the redirected */
	REDIRECT_FRAG,  /* of the redirected */
	PASS_SCOPE,     /* multicast, broadcast, link-local */
	PASS_JOINED,    /* several datagrams in one packet */
	PASS_GROUP,     /* of a group that other sockets may hear too */
	PASS_HOST,     /* to the link-layer address of another host */
	COUNTERS,
};

struct {
	__uint(type, BPF_MAP_TYPE_XSKMAP);
	__uint(max_entries, 64);
	__type(key, __u32);
	__type(value, __u32);
} xsks SEC(".maps");

// devs has the near ends of the links of processes, from OWNER_LINK on.
struct {
	__uint(type, BPF_MAP_TYPE_DEVMAP);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} devs SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, struct frag_key);
	__type(value, struct frag_state);
} frags SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, COUNTERS);
	__type(key, __u32);
	__type(value, __u64);
} counters SEC(".maps");

// unheld is the verdict on a packet of ours that comes by a queue without a socket:
// XDP_PASS, or XDP_DROP if the interface has just got the queue and the socket is
// about to be opened. The kernel would answer such a packet with a reset.
volatile __u32 unheld = XDP_PASS;

// macs are the unicast addresses of frames for this host, as they are in memory. The
// first is 0 if they are not known: then every frame is taken to be for this host.
// Fewer addresses than words fill them all, so that 0 is none.
#define MACS 8
volatile __u64 macs[MACS];

// Offsets in the kernel's struct xdp_buff and struct skb_shared_info, and the aligned
// size of the latter. In generic mode they lead to the facts about a packet that are
// not in its bytes. They are 0 if they are not known, or must not be read.
volatile const __u32 buff_hard_start, buff_frame_sz, shared_size, shared_gso_size, shared_gso_type;

// Offsets of the kernel's xdp_buff.rxq, xdp_rxq_info.dev and net_device.dev_addr.
// They lead to the link-layer address of the interface that a packet came by. All
// are 0 if they are not known, or must not be read.
volatile const __u32 buff_rxq, rxq_dev, device_addr;

#define SKB_GSO_UDP_L4 (1 << 17) /* linux/skbuff.h */

#define L3 sizeof(struct ethhdr) /* where IP begins, without VLAN tags */

struct packet {
	struct addr src, dst;
	__u32 l4; /* offset of the transport header */
	__u32 len; /* of the IP packet */
	__u32 id;
	__u8 family;
	__u8 proto;
	__u8 fragment; /* one of several */
	__u8 first;    /* holds the transport header */
};

static __always_inline void count(__u32 which)
{
	__u64 *v = bpf_map_lookup_elem(&counters, &which);

	if (v)
		(*v)++;
}

static __always_inline int pass(__u32 why)
{
	count(why);
	return XDP_PASS;
}

// in_place copies len bytes at off, a constant, and reports whether it could: they
// must lie in the linear part of the packet.
static __always_inline int in_place(struct xdp_md *ctx, const __u32 off, void *to, const __u32 len)
{
	void *at = (void *)(long)ctx->data + off;
	void *end = (void *)(long)ctx->data_end;

	// Without this clang replaces at by a variable sum, which the verifier refuses.
	asm volatile("" : "+r"(at));
	if (at + len > end)
		return 0;
	__builtin_memcpy(to, at, len);
	return 1;
}

// load copies len bytes at off, and returns 0 if it could. Without CAP_PERFMON the
// verifier refuses the sum of a packet's address and a variable. So two offsets are
// read in place: usual, where most packets have the header, and the one behind a VLAN
// tag. At all others the helper reads. It also finds headers behind the linear part:
// in generic mode they may lie there.
static __always_inline int load(struct xdp_md *ctx, __u32 off, const __u32 usual, void *to, const __u32 len)
{
	if (off == usual && in_place(ctx, usual, to, len))
		return 0;
	if (off == usual + sizeof(struct vlanhdr) && in_place(ctx, usual + sizeof(struct vlanhdr), to, len))
		return 0;
	return bpf_xdp_load_bytes(ctx, off, to, len);
}

static __always_inline int parse_ipv4(struct xdp_md *ctx, __u32 off, struct packet *p)
{
	struct ipv4hdr ip;
	__u32 ihl;
	__u16 frag;

	if (load(ctx, off, L3, &ip, sizeof(ip)))
		return PASS_MALFORMED;
	ihl = (ip.vihl & 15) * 4;
	if (ip.vihl >> 4 != 4 || ihl < sizeof(ip))
		return PASS_MALFORMED;
	p->family = 4;
	p->proto = ip.proto;
	p->len = bpf_ntohs(ip.len);
	p->src.w[0] = ip.src;
	p->dst.w[0] = ip.dst;
	p->l4 = off + ihl;
	frag = bpf_ntohs(ip.frag) & 0x3fff;
	p->fragment = frag != 0;
	p->first = (frag & 0x1fff) == 0;
	p->id = ip.id;
	return 0;
}

static __always_inline int parse_ipv6(struct xdp_md *ctx, __u32 off, struct packet *p)
{
	struct ipv6hdr ip;
	__u8 next;
	int i;

	if (load(ctx, off, L3, &ip, sizeof(ip)))
		return PASS_MALFORMED;
	if (ip.vtc >> 4 != 6)
		return PASS_MALFORMED;
	p->family = 6;
	p->len = sizeof(ip) + bpf_ntohs(ip.len);
	p->src = ip.src;
	p->dst = ip.dst;
	p->fragment = 0;
	p->first = 1;
	next = ip.next;
	off += sizeof(ip);
#pragma clang loop unroll(disable)
	for (i = 0; i < MAX_EXT; i++) {
		struct exthdr eh;
		__u16 fo;

		if (next != PROTO_HOPOPTS && next != PROTO_DSTOPTS &&
		    next != PROTO_ROUTING && next != PROTO_FRAGMENT)
			break;
		if (bpf_xdp_load_bytes(ctx, off, &eh, sizeof(eh)))
			return PASS_MALFORMED;
		if (next != PROTO_FRAGMENT) {
			if (next == PROTO_ROUTING && eh.left != 0)
				return PASS_PROTO; /* not at its destination yet */
			next = eh.next;
			off += (eh.len + 1) * 8;
			continue;
		}
		fo = bpf_ntohs(eh.frag.off);
		// An atomic fragment is a whole packet (RFC 6946).
		if (fo & ~6) {
			p->fragment = 1;
			p->id = eh.frag.id;
			p->first = (fo & ~7) == 0;
			if (!p->first) {
				p->proto = eh.next;
				return 0;
			}
		}
		next = eh.next;
		off += sizeof(eh);
	}
	p->proto = next;
	p->l4 = off;
	return 0;
}

// parse_ip reads the IP header at off into p. It returns 0, or the reason to pass the
// packet. It is a global function, as lookup is.
__attribute__((noinline)) int parse_ip(struct xdp_md *ctx, __u32 off, __u32 v6, struct packet *p)
{
	if (!p)
		return PASS_MALFORMED;
	return v6 ? parse_ipv6(ctx, off, p) : parse_ipv4(ctx, off, p);
}

// owner_of returns the owner of a flow, or the reason to pass the packet, negated.
static __always_inline int owner_of(struct flow_key *k)
{
	int owner = lookup(k);

	if (owner >= OWNER_LINK && !interface_address(k))
		return -PASS_NO_PORT;
	if (owner > 0)
		return owner;
	return owner == OWNER_KERNEL ? -PASS_FLOW : -PASS_NO_PORT;
}

static __always_inline int to_group(struct packet *p)
{
	return p->family == 4 ? (p->dst.w[0] & bpf_htonl(0xf0000000)) == bpf_htonl(0xe0000000)
			      : (p->dst.w[0] & bpf_htonl(0xff000000)) == bpf_htonl(0xff000000);
}

// lookup_group is owner_of for a datagram to a multicast group. The kernel gives such
// a datagram to every socket that hears the group at the port; a redirect gives it to
// the owner's sockets only. So the program asks the kernel for the socket that it
// prefers at the port. Among sockets that fit equally well that is the one bound last.
// If it is not the owner's, the packet is the kernel's, from the first packet after the
// bind on. internal/engine finds the other sockets, and removes the entry.
__attribute__((noinline)) int lookup_group(struct xdp_md *ctx, struct flow_key *k)
{
	struct bpf_sock_tuple t = {};
	struct port_key pk = {};
	struct port_entry *e;
	struct bpf_sock *sk;
	int same;

	if (!k)
		return -PASS_MALFORMED;
	if (!k->lport)
		return -PASS_SCOPE; /* as in lookup */
	pk.local = k->local;
	pk.port = k->lport;
	pk.proto = k->proto;
	pk.family = k->family;
	e = bpf_map_lookup_elem(&ports, &pk);
	if (!e)
		return -PASS_SCOPE;
	if (k->family == 4) {
		t.ipv4.saddr = k->remote.w[0];
		t.ipv4.daddr = k->local.w[0];
		t.ipv4.sport = k->rport;
		t.ipv4.dport = k->lport;
		sk = bpf_sk_lookup_udp(ctx, &t, sizeof(t.ipv4), BPF_F_CURRENT_NETNS, 0);
	} else {
		__builtin_memcpy(t.ipv6.saddr, &k->remote, sizeof(t.ipv6.saddr));
		__builtin_memcpy(t.ipv6.daddr, &k->local, sizeof(t.ipv6.daddr));
		t.ipv6.sport = k->rport;
		t.ipv6.dport = k->lport;
		sk = bpf_sk_lookup_udp(ctx, &t, sizeof(t.ipv6), BPF_F_CURRENT_NETNS, 0);
	}
	if (!sk)
		return e->owner;
	same = sk->priority == e->priority;
	bpf_sk_release(sk);
	return same ? e->owner : -PASS_GROUP;
}

// icmp_error is owner_of for an ICMP error: of the packet that it quotes, whose source
// is the owner.
static __always_inline int icmp_error(struct xdp_md *ctx, struct packet *outer)
{
	struct flow_key k = {};
	struct packet p = {};
	__be16 port[2];
	__u8 type;
	int r;

	if (bpf_xdp_load_bytes(ctx, outer->l4, &type, 1))
		return -PASS_MALFORMED;
	if (outer->family == 4) {
		// Unreachable, time exceeded, parameter problem. The kernel gets redirects
		// and source quench.
		if (type != 3 && type != 11 && type != 12)
			return -PASS_PROTO;
	} else if (type < 1 || type > 4) {
		return -PASS_PROTO;
	}
	r = parse_ip(ctx, outer->l4 + 8, outer->family == 6, &p);
	if (r)
		return -r;
	if ((p.proto != PROTO_TCP && p.proto != PROTO_UDP) || !p.first)
		return -PASS_PROTO;
	if (bpf_xdp_load_bytes(ctx, p.l4, port, sizeof(port)))
		return -PASS_MALFORMED;
	k.local = p.src;
	k.remote = p.dst;
	k.lport = port[0];
	k.rport = port[1];
	k.proto = p.proto;
	k.family = p.family;
	return owner_of(&k);
}

// some_port reports whether a port of the queues' process has the address that a
// fragment is for.
static __always_inline int some_port(struct packet *p)
{
	struct port_key k = {};

	k.family = p->family;
	k.proto = p->proto == PROTO_DSTOPTS ? PROTO_UDP : p->proto; /* the first fragment has the next header */
	if (k.proto != PROTO_TCP && k.proto != PROTO_UDP)
		return 0;
	if (!to_group(p) && bpf_map_lookup_elem(&ports, &k))
		return 1;
	k.local = p->dst;
	return bpf_map_lookup_elem(&ports, &k) != 0;
}

// noted returns the owner of a datagram's fragments that an earlier fragment has
// noted, OWNER_KERNEL if there was none within FRAG_TTL_NS.
static __always_inline __u32 noted(struct frag_key *k)
{
	__u64 now = bpf_ktime_get_ns();
	struct frag_state *s = bpf_map_lookup_elem(&frags, k);

	if (!s || now - s->seen > FRAG_TTL_NS)
		return OWNER_KERNEL;
	s->seen = now;
	return s->whose;
}

// recall returns the owner of a datagram that an earlier fragment has noted. If there
// was none within FRAG_TTL_NS, it notes whose, and returns that.
static __always_inline __u32 recall(struct frag_key *k, __u32 whose)
{
	__u64 now = bpf_ktime_get_ns();
	struct frag_state next = { .seen = now, .whose = whose };
	struct frag_state *s = bpf_map_lookup_elem(&frags, k);

	if (s && now - s->seen > FRAG_TTL_NS) {
		bpf_map_delete_elem(&frags, k);
		s = 0;
	}
	// Another processor may handle another fragment of the datagram at this moment.
	// The first one to write decides.
	if (!s) {
		if (bpf_map_update_elem(&frags, k, &next, BPF_NOEXIST) == 0)
			return whose;
		s = bpf_map_lookup_elem(&frags, k);
		if (!s)
			return whose;
	}
	s->seen = now;
	return s->whose;
}

// later_fragment is owner_of for a fragment without ports. It follows its first
// fragment. One that overtook its first waits for that in the stack, if a port of the
// queues' process has its address. A link gets none of those: it may be another's.
static __always_inline int later_fragment(struct frag_key *k, struct packet *p)
{
	__u32 whose = some_port(p) ? recall(k, OWNER_SOCKETS) : noted(k);

	return whose == OWNER_KERNEL ? -PASS_FRAGMENT : whose;
}

// joined reports whether the packet is larger than the link's MTU. On a virtual link
// it then stands for several datagrams that the peer's kernel has not cut yet
// (UDP_SEGMENT). Only this kernel knows their size: it cuts them and gives them to its
// own socket. Asking for the MTU costs up to 7 % of the datagrams a second, so packets
// that every Ethernet takes are not asked about.
static __always_inline int joined(struct xdp_md *ctx, struct packet *p)
{
	__u32 len = p->len;

	return len > ETHERNET_MTU && bpf_check_mtu(ctx, 0, &len, 0, 0) == BPF_MTU_CHK_RET_FRAG_NEEDED;
}

// segment_size returns the payload bytes of each datagram if the packet stands for
// several (UDP_SEGMENT at the sender), else 0. The kernel does not show it to XDP
// programs. But in generic mode the packet is a socket buffer, whose shared
// information lies at the end of the frame, as xdp_buff describes it. Reading the
// kernel's memory takes CAP_PERFMON. The loader clears shared_size without it.
static __always_inline __u16 segment_size(struct xdp_md *ctx)
{
	const __u32 at = buff_frame_sz - buff_hard_start;
	__u8 buff[32] __attribute__((aligned(8))); /* of xdp_buff, from data_hard_start on: one read is cheaper than two */
	void *shared;
	__u32 type;
	__u16 size;

	if (!shared_size || at > sizeof(buff) - sizeof(__u32))
		return 0;
	if (bpf_probe_read_kernel(buff, sizeof(buff), (void *)ctx + buff_hard_start))
		return 0;
	shared = *(void **)buff + *(__u32 *)(buff + at) - shared_size;
	if (bpf_probe_read_kernel(&size, sizeof(size), shared + shared_gso_size) || !size)
		return 0;
	if (bpf_probe_read_kernel(&type, sizeof(type), shared + shared_gso_type) || !(type & SKB_GSO_UDP_L4))
		return 0;
	return size;
}

// mark tells the driver the segment size, in place of the sender's MAC address. No
// station has an address with the group bit. See Queue.RxBatch.
static __always_inline void mark(struct xdp_md *ctx, __u16 size)
{
	__u8 src[6] = { 0x01, 0x00, 0x5e, 0xff, size >> 8, size };

	bpf_xdp_store_bytes(ctx, 6, src, sizeof(src));
}

// mark_kernels tells the driver that a first fragment is the kernel's. The fragment is
// redirected only because the stack has others of its datagram. The rest of the
// sender's address stays.
static __always_inline void mark_kernels(struct xdp_md *ctx, struct ethhdr *eth)
{
	__u8 src = eth->src[0] | 1;

	bpf_xdp_store_bytes(ctx, 6, &src, sizeof(src));
}

// like_mark reports whether a sender's address, with the group bit, would be a mark
// of segments.
static __always_inline int like_mark(struct ethhdr *eth)
{
	return eth->src[0] == 0 && eth->src[1] == 0 && eth->src[2] == 0x5e && eth->src[3] == 0xff;
}

static __always_inline int redirect(struct xdp_md *ctx, __u32 owner, __u32 why)
{
	int r;

	if (owner < OWNER_LINK) {
		r = bpf_redirect_map(&xsks, ctx->rx_queue_index, unheld);
		// Otherwise clang makes one call of both, for whose map the kernel looks at
		// run time. That costs 10 ns.
		asm volatile("" : "+r"(r));
	} else {
		r = bpf_redirect_map(&devs, owner - OWNER_LINK, XDP_PASS);
	}
	if (r != XDP_REDIRECT) {
		count(PASS_NO_SOCKET);
		return r;
	}
	count(REDIRECTED);
	if (why != REDIRECTED)
		count(why);
	return r;
}

// interface_has reports whether the interface has that address now. The process may
// learn of a change later than the peer. Until then the kernel would answer our
// packets with resets.
static __always_inline int interface_has(struct xdp_md *ctx, __u64 mac)
{
	__u64 now = 0;
	void *p = (void *)ctx;

	if (!buff_rxq && !rxq_dev && !device_addr)
		return 0;
	if (bpf_probe_read_kernel(&p, sizeof(p), p + buff_rxq) || bpf_probe_read_kernel(&p, sizeof(p), p + rxq_dev) ||
	    bpf_probe_read_kernel(&p, sizeof(p), p + device_addr) || bpf_probe_read_kernel(&now, 6, p))
		return 0;
	return mac == now;
}

// others reports whether a frame to that unicast address is for another host. A
// promiscuous or flooded port brings such frames. The kernel bridges them, drops them
// or gives them to a macvlan.
static __always_inline int others(struct xdp_md *ctx, const __u8 *dst)
{
	__u64 mac = 0;
	int i;

	__builtin_memcpy(&mac, dst, 6);
	if (mac == macs[0] || !macs[0])
		return 0;
#pragma clang loop unroll(full)
	for (i = 1; i < MACS; i++)
		if (mac == macs[i])
			return 0;
	return !interface_has(ctx, mac);
}

// The sender's address of frames that the driver gives back, as it is in memory; 0
// in native mode, where this program does not see them.
volatile const __u64 returned;

static __always_inline int is_returned(const __u8 *src)
{
	__u64 mac = 0;

	__builtin_memcpy(&mac, src, 6);
	return returned && mac == returned;
}

SEC("xdp.frags")
int onload_steer(struct xdp_md *ctx)
{
	struct packet p = {};
	struct frag_key fk = {};
	struct flow_key k = {};
	struct ethhdr eth;
	__be16 port[2];
	__u16 proto, seg = 0;
	__u32 off = sizeof(eth);
	int i, r, group;

	if (load(ctx, 0, 0, &eth, sizeof(eth)))
		return pass(PASS_MALFORMED);
	if ((eth.src[0] & 1) || is_returned(eth.src))
		return pass(PASS_MALFORMED); /* nobody's address: our mark, and what Device.Return gives back */
	proto = bpf_ntohs(eth.proto);
	for (i = 0; i < MAX_TAGS && (proto == P_8021Q || proto == P_8021AD); i++) {
		struct vlanhdr tag;

		if (load(ctx, off, L3, &tag, sizeof(tag)))
			return pass(PASS_MALFORMED);
		proto = bpf_ntohs(tag.proto);
		off += sizeof(tag);
	}
	if (proto != P_IPV4 && proto != P_IPV6)
		return pass(PASS_NOT_IP);
	r = parse_ip(ctx, off, proto == P_IPV6, &p);
	if (r)
		return pass(r);
	// A link-local address means something only together with its link, and our
	// sockets do not name links (RFC 4007 section 6).
	if (p.family == 6 && (p.dst.w[0] & bpf_htonl(0xffc00000)) == bpf_htonl(0xfe800000))
		return pass(PASS_SCOPE);
	// The kernel gets broadcasts, and gives them to its half of our sockets. It also
	// gets the groups of a VLAN: their members have joined on another link.
	group = to_group(&p);
	if ((eth.dst[0] & 1) != group || (group && off != sizeof(eth)))
		return pass(PASS_SCOPE);
	if (!group && others(ctx, eth.dst))
		return pass(PASS_HOST);

	if (p.fragment) {
		fk.src = p.src;
		fk.dst = p.dst;
		fk.id = p.id;
		fk.family = p.family;
		if (p.family == 4)
			fk.proto = p.proto;
		if (!p.first) {
			r = later_fragment(&fk, &p);
			return r < 0 ? pass(-r) : redirect(ctx, r, REDIRECT_FRAG);
		}
	}

	if (group && p.proto != PROTO_UDP)
		return pass(PASS_SCOPE);
	if (p.proto == PROTO_ICMP || p.proto == PROTO_ICMPV6) {
		if (p.fragment || (p.proto == PROTO_ICMP) != (p.family == 4))
			return pass(PASS_PROTO);
		r = icmp_error(ctx, &p);
		return r < 0 ? pass(-r) : redirect(ctx, r, REDIRECT_ICMP);
	}
	if (p.proto != PROTO_TCP && p.proto != PROTO_UDP)
		return pass(PASS_PROTO);
	if (p.family == 4 ? load(ctx, p.l4, L3 + sizeof(struct ipv4hdr), port, sizeof(port))
			  : load(ctx, p.l4, L3 + sizeof(struct ipv6hdr), port, sizeof(port))) {
		if (!p.fragment)
			return pass(PASS_MALFORMED);
		// A fragment of no length: reassembly drops the datagram for it.
		r = later_fragment(&fk, &p);
		return r < 0 ? pass(-r) : redirect(ctx, r, REDIRECT_FRAG);
	}
	k.local = p.dst;
	k.remote = p.src;
	k.lport = port[1];
	k.rport = port[0];
	k.proto = p.proto;
	k.family = p.family;
	r = group ? lookup_group(ctx, &k) : owner_of(&k);
	if (r > 0 && p.proto == PROTO_UDP) {
		seg = segment_size(ctx);
		if (!seg && joined(ctx, &p))
			r = -PASS_JOINED;
	}
	if (!p.fragment) {
		if (r < 0)
			return pass(-r);
		r = redirect(ctx, r, REDIRECTED);
		if (seg && r == XDP_REDIRECT)
			mark(ctx, seg);
		return r;
	}

	// The first fragment decides for the rest, even if an earlier datagram with the
	// same identification was decided otherwise. But if the stack already has some
	// of a datagram of the kernel's, it must get all. If it cannot be told so, it
	// gives the kernel the others later.
	if (r < 0) {
		if (some_port(&p) && recall(&fk, OWNER_KERNEL) == OWNER_SOCKETS && !like_mark(&eth)) {
			r = redirect(ctx, OWNER_SOCKETS, REDIRECT_FRAG);
			if (r == XDP_REDIRECT)
				mark_kernels(ctx, &eth);
			return r;
		}
		if (noted(&fk) >= OWNER_LINK)
			bpf_map_delete_elem(&frags, &fk);
		return pass(-r);
	}
	struct frag_state first = { .seen = bpf_ktime_get_ns(), .whose = r };

	bpf_map_update_elem(&frags, &fk, &first, BPF_ANY);
	return redirect(ctx, r, REDIRECT_FRAG);
}

// interface is the number of our interface.
volatile const __u32 interface;

// onload_return gives the kernel a frame as though the interface had received it. The
// driver runs it (BPF_PROG_TEST_RUN); it is attached to nothing. In generic mode
// onload_steer sees such a frame again, and passes it because of its sender's address.
SEC("tc")
int onload_return(struct __sk_buff *skb)
{
	return bpf_clone_redirect(skb, interface, BPF_F_INGRESS);
}

char _license[] SEC("license") = "Dual BSD/GPL";
