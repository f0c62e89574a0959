//go:build ignore

// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// What a process without privileges may send by its link, and how it receives.
//
// onload_filter runs at the near end of every link (tcx ingress), on all that a process
// sends. A packet that the process may send is redirected to the interface, behind
// which queueing discipline, segmentation and checksum offload apply. All others are
// dropped. A packet is allowed if its answer would be steered to the same link: the
// table is that of steer.c.
//
// The process writes packets and virtio_net headers as it likes. So nothing is
// believed: neither the lengths in the headers, nor the place where the kernel is asked
// to write a checksum after the filter has run, nor a VLAN tag that the kernel has
// taken off before.

#include <linux/bpf.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "../../../driver/afxdp/bpf/headers.h"
#include "../../../driver/afxdp/bpf/table.h"

#define TC_ACT_SHOT 2

#define TCP_HEADER 20
#define UDP_HEADER 8
#define TCP_CHECKSUM 16
#define UDP_CHECKSUM 6
#define LEAST_SEGMENT 48 /* tcp_min_snd_mss of the kernel */

#define MIN_FRAME 60 /* shorter packets are padded to it */

#define CHECKSUM_PARTIAL 3 /* linux/skbuff.h */

// Keep in step with LinkCounters in nicshare.
enum counter {
	SENT,
	SENT_FRAGMENT,  /* of the sent */
	DROP_MAC,
	DROP_VLAN,
	DROP_PROTO,
	DROP_HEADER,
	DROP_FRAGMENT,
	DROP_SOURCE,
	DROP_CHECKSUM,
	DROP_SIZE,
	DROP_RATE,
	COUNTERS,
};

// bucket is the time at which all that was sent would have left at the rate, for each
// of two limits. It may be burst ns ahead of now.
struct bucket {
	struct bpf_spin_lock lock;
	__u32 pad;
	__u64 bytes, packets;
};

struct link {
	__u32 owner; /* from OWNER_LINK on */
	__u32 priority; /* of its groups, see struct port_entry */
	__u8 token[16]; /* the broker's */
	// Time that a byte and a packet take at the rate, 2^-16 ns; 0: no limit.
	__u64 byte_time, packet_time;
	struct bucket bucket;
};

// links has the links by the index of their near end.
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 256);
	__type(key, __u32);
	__type(value, struct link);
} links SEC(".maps");

// nic is the interface.
struct nic {
	__u32 index;
	__u32 mtu;
	__u8 mac[6];
	__u8 pad[2];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct nic);
} nic SEC(".maps");

// first has, for each link, the fragmented datagrams whose first fragment was allowed.
// Each link has its own places, so that none can push out what another has sent.
#define FIRSTS 64
#define FIRST_TTL_NS 1000000000ULL

struct first {
	__u64 seen;
	struct addr src, dst;
	__u32 id;
	__u8 family;
	__u8 ttl; /* of the first fragment */
	__u8 pad[2];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, FIRSTS);
	__type(key, __u32);
	__type(value, struct first);
} firsts SEC(".maps");

// sent has the counters of each link, COUNTERS each.
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, COUNTERS);
	__type(key, __u32);
	__type(value, __u64);
} sent SEC(".maps");

static __always_inline void count(struct link *l, __u32 what)
{
	__u32 i = (l->owner - OWNER_LINK) * COUNTERS + what;
	__u64 *v = bpf_map_lookup_elem(&sent, &i);

	if (v)
		(*v)++;
}

// packet is what was read of a packet.
struct packet {
	struct flow_key flow;
	__u32 l4;     /* offset of the transport header */
	__u32 l4_len; /* with its header */
	__u32 len;    /* of the IP packet */
	__u32 id;     /* of a fragment */
	__u16 offset; /* of a fragment, bytes */
	__u8 ttl;     /* or hop limit */
	__u8 fragment;
	__u8 more;    /* fragments follow */
	__u8 group;   /* to a multicast group */
};

static __always_inline int parse_ipv4(struct __sk_buff *skb, struct packet *p)
{
	struct ipv4hdr ip;
	__u16 frag;

	if (bpf_skb_load_bytes(skb, sizeof(struct ethhdr), &ip, sizeof(ip)))
		return DROP_HEADER;
	// Options could route the packet, or record its route.
	if (ip.vihl != 0x45)
		return DROP_HEADER;
	p->flow.family = 4;
	p->flow.proto = ip.proto;
	p->flow.local.w[0] = ip.src;
	p->flow.remote.w[0] = ip.dst;
	p->len = bpf_ntohs(ip.len);
	p->ttl = ip.ttl;
	p->l4 = sizeof(struct ethhdr) + sizeof(ip);
	p->group = (ip.dst & bpf_htonl(0xf0000000)) == bpf_htonl(0xe0000000);
	frag = bpf_ntohs(ip.frag);
	if (frag & 0x8000)
		return DROP_HEADER;
	p->fragment = (frag & 0x3fff) != 0;
	p->more = (frag & 0x2000) != 0;
	p->offset = (frag & 0x1fff) * 8;
	p->id = ip.id;
	return 0;
}

static __always_inline int parse_ipv6(struct __sk_buff *skb, struct packet *p)
{
	struct ipv6hdr ip;
	struct exthdr eh;
	__u16 frag;

	if (bpf_skb_load_bytes(skb, sizeof(struct ethhdr), &ip, sizeof(ip)))
		return DROP_HEADER;
	if (ip.vtc >> 4 != 6)
		return DROP_HEADER;
	p->flow.family = 6;
	p->flow.proto = ip.next;
	p->flow.local = ip.src;
	p->flow.remote = ip.dst;
	p->len = sizeof(ip) + bpf_ntohs(ip.len);
	p->ttl = ip.hops;
	p->l4 = sizeof(struct ethhdr) + sizeof(ip);
	p->group = (ip.dst.w[0] & bpf_htonl(0xff000000)) == bpf_htonl(0xff000000);
	// Of the extension headers only that of fragments is allowed.
	if (ip.next != PROTO_FRAGMENT)
		return 0;
	if (bpf_skb_load_bytes(skb, p->l4, &eh, sizeof(eh)))
		return DROP_HEADER;
	frag = bpf_ntohs(eh.frag.off);
	p->flow.proto = eh.next;
	p->l4 += sizeof(eh);
	p->fragment = 1;
	p->more = frag & 1;
	p->offset = frag & ~7;
	p->id = eh.frag.id;
	return 0;
}

// fits reports whether the destination's link-layer address is the group's if the
// packet goes to a group (RFC 1112 section 6.4, RFC 2464 section 7), and a station's
// if it does not. So a process sends no broadcasts.
static __always_inline int fits(const __u8 *mac, struct packet *p)
{
	const __u8 *g = (const __u8 *)&p->flow.remote;

	if (!p->group)
		return !(mac[0] & 1);
	if (p->flow.family == 4)
		return mac[0] == 1 && mac[1] == 0 && mac[2] == 0x5e && mac[3] == (g[1] & 0x7f) && mac[4] == g[2] && mac[5] == g[3];
	return mac[0] == 0x33 && mac[1] == 0x33 && mac[2] == g[12] && mac[3] == g[13] && mac[4] == g[14] && mac[5] == g[15];
}

// place returns the place of a datagram among those of its link.
static __always_inline struct first *place(struct link *l, struct packet *p)
{
	__u32 i = (l->owner - OWNER_LINK) * FIRSTS + ((p->id ^ p->id >> 8 ^ p->id >> 16 ^ p->id >> 24) & (FIRSTS - 1));

	return bpf_map_lookup_elem(&firsts, &i);
}

// note remembers a datagram whose first fragment is allowed. Another processor may
// write the same place at this moment. Whatever mixture results, each part of it is of
// a datagram that the link may send.
static __always_inline void note(struct link *l, struct packet *p)
{
	struct first *f = place(l, p);

	if (!f)
		return;
	f->src = p->flow.local;
	f->dst = p->flow.remote;
	f->id = p->id;
	f->family = p->flow.family;
	f->ttl = p->ttl;
	f->seen = bpf_ktime_get_ns();
}

static __always_inline int same(const struct addr *a, const struct addr *b)
{
	return a->w[0] == b->w[0] && a->w[1] == b->w[1] && a->w[2] == b->w[2] && a->w[3] == b->w[3];
}

// noted reports whether the first fragment of the datagram was allowed, and gets as far
// as this one. A first fragment that dies on its way would leave the others to complete
// another process's datagram.
static __always_inline int noted(struct link *l, struct packet *p)
{
	struct first *f = place(l, p);

	return f && f->id == p->id && f->family == p->flow.family && p->ttl <= f->ttl && same(&f->src, &p->flow.local) &&
	       same(&f->dst, &p->flow.remote) && bpf_ktime_get_ns() - f->seen < FIRST_TTL_NS;
}

// own reports whether the packet is from a port of the link's and from an address of
// the interface.
static __always_inline int own(struct link *l, struct packet *p)
{
	return lookup(&p->flow) == l->owner && interface_address(&p->flow);
}

struct sk_buff {
	unsigned char *head, *data;
	__u8 ip_summed : 2;
	__u16 csum_start, csum_offset;
} __attribute__((preserve_access_index));

extern void *bpf_cast_to_kern_ctx(void *obj) __ksym;

// checksum returns 0 if the kernel is asked for no checksum after the filter, or for
// that of the transport header in its place. Anything else would let it write over
// addresses or ports. requested says that it is asked for one.
static __always_inline int checksum(struct __sk_buff *skb, struct packet *p, int *requested)
{
	struct sk_buff *k = bpf_cast_to_kern_ctx(skb);
	__u16 field = p->flow.proto == PROTO_TCP ? TCP_CHECKSUM : UDP_CHECKSUM;
	__s64 start;

	*requested = BPF_CORE_READ_BITFIELD(k, ip_summed) == CHECKSUM_PARTIAL;
	if (!*requested)
		return 0;
	start = (__s64)k->csum_start - (k->data - k->head);
	if (p->fragment || start != p->l4 || k->csum_offset != field)
		return DROP_CHECKSUM;
	return 0;
}

// segments returns how many packets the interface makes of this one, 0 if none may be
// made of it. headers is set to the bytes in front of the data of each.
static __always_inline __u32 segments(struct __sk_buff *skb, struct packet *p, __u32 mtu, int partial, __u32 *headers)
{
	__u32 size = skb->gso_size, header = UDP_HEADER;
	__u8 off;

	*headers = 0;
	if (!size)
		return p->len <= mtu;
	if (p->fragment || !partial || size < LEAST_SEGMENT)
		return 0;
	if (p->flow.proto == PROTO_TCP) {
		if (bpf_skb_load_bytes(skb, p->l4 + 12, &off, 1))
			return 0;
		header = (off >> 4) * 4;
	}
	*headers = p->l4 + header;
	if (*headers - sizeof(struct ethhdr) + size > mtu || skb->len <= *headers)
		return 0;
	return (skb->len - *headers + size - 1) / size;
}

// BURST_NS is how much time's worth may leave at once.
#define BURST_NS 100000000ULL

static __always_inline __u64 later(__u64 a, __u64 b)
{
	return a < b ? b : a;
}

// within reports whether the link's rates allow a packet now, and counts it then. The
// last packet of a burst may be of any size.
static __always_inline int within(struct link *l, __u64 bytes, __u64 packets)
{
	__u64 now, b, n;
	int ok;

	if (!l->byte_time && !l->packet_time)
		return 1;
	now = bpf_ktime_get_ns();
	bpf_spin_lock(&l->bucket.lock);
	b = later(l->bucket.bytes, now);
	n = later(l->bucket.packets, now);
	ok = b <= now + BURST_NS && n <= now + BURST_NS;
	if (ok) {
		l->bucket.bytes = b + (bytes * l->byte_time >> 16);
		l->bucket.packets = n + (packets * l->packet_time >> 16);
	}
	bpf_spin_unlock(&l->bucket.lock);
	return ok;
}

// word is a link-layer address as one number.
static __always_inline __u64 word(const __u8 *mac)
{
	__u64 w = 0;

	__builtin_memcpy(&w, mac, 6);
	return w;
}

// allowed returns 0 if the link may send the packet, else the reason to drop it.
static __always_inline int allowed(struct __sk_buff *skb, struct link *l, struct nic *n, struct packet *p)
{
	__u32 made, headers, header;
	struct ethhdr eth;
	__be16 port[2];
	int r, partial;

	// Outside of a namespace the kernel would have the tag in the packet again.
	if (skb->vlan_present)
		return DROP_VLAN;
	if (bpf_skb_load_bytes(skb, 0, &eth, sizeof(eth)))
		return DROP_HEADER;
	if (word(eth.src) != word(n->mac))
		return DROP_MAC;
	if (eth.proto == bpf_htons(P_IPV4))
		r = parse_ipv4(skb, p);
	else if (eth.proto == bpf_htons(P_IPV6))
		r = parse_ipv6(skb, p);
	else
		return DROP_PROTO;
	if (r)
		return r;
	if (p->flow.proto != PROTO_TCP && p->flow.proto != PROTO_UDP)
		return DROP_PROTO;
	if (!fits(eth.dst, p))
		return DROP_MAC;
	if (p->group && p->flow.proto != PROTO_UDP)
		return DROP_PROTO;
	if (p->len + sizeof(eth) > skb->len || (p->len + sizeof(eth) < skb->len && skb->len > MIN_FRAME) ||
	    p->len + sizeof(eth) < p->l4)
		return DROP_HEADER;
	p->l4_len = p->len + sizeof(eth) - p->l4;

	r = checksum(skb, p, &partial);
	if (r)
		return r;
	if (p->offset) {
		// A fragment from byte 8 on can write over nothing that was looked at.
		if (p->flow.proto != PROTO_UDP || !noted(l, p))
			return DROP_FRAGMENT;
	} else {
		// TCP never sends fragments. RFC 1858 has what they are good for.
		if (p->fragment && p->flow.proto != PROTO_UDP)
			return DROP_FRAGMENT;
		header = p->flow.proto == PROTO_TCP ? TCP_HEADER : UDP_HEADER;
		if (p->l4_len < header)
			return p->fragment ? DROP_FRAGMENT : DROP_HEADER;
		if (bpf_skb_load_bytes(skb, p->l4, port, sizeof(port)))
			return DROP_HEADER;
		p->flow.lport = port[0];
		p->flow.rport = port[1];
		if (!own(l, p))
			return DROP_SOURCE;
	}
	made = segments(skb, p, n->mtu, partial, &headers);
	if (!made)
		return DROP_SIZE;
	if (!within(l, skb->len + (__u64)(made - 1) * headers, made))
		return DROP_RATE;
	// An atomic fragment (RFC 6946) is whole. Were it noted, fragments could follow that
	// the receiver would add to another process's datagram.
	if (p->more && !p->offset)
		note(l, p);
	return 0;
}

SEC("tc")
int onload_filter(struct __sk_buff *skb)
{
	__u32 index = skb->ifindex, zero = 0;
	struct link *l = bpf_map_lookup_elem(&links, &index);
	struct nic *n = bpf_map_lookup_elem(&nic, &zero);
	struct packet p = {};
	int r;

	if (!l || !n)
		return TC_ACT_SHOT;
	r = allowed(skb, l, n, &p);
	if (r) {
		count(l, r);
		return TC_ACT_SHOT;
	}
	count(l, SENT);
	if (p.fragment)
		count(l, SENT_FRAGMENT);
	return bpf_redirect(n->index, 0);
}

// sockets has the AF_XDP socket of the process. Each link has a map of its own.
struct {
	__uint(type, BPF_MAP_TYPE_XSKMAP);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} sockets SEC(".maps");

// onload_receive runs at the far end: all that comes is the process's.
SEC("xdp.frags")
int onload_receive(struct xdp_md *ctx)
{
	return bpf_redirect_map(&sockets, 0, XDP_DROP);
}

// The mark of the packet socket of a link (SO_MARK), which its process cannot change.
// Keep in step with packetMark in nicshare.
#define PACKET_MARK 0x6f6e6c64

#define SOL_PACKET 263
#define PACKET_RX_RING 5
#define PACKET_TX_RING 13
#define EPERM 1

struct sock {
	__u32 sk_mark;
} __attribute__((preserve_access_index));

struct socket {
	struct sock *sk;
} __attribute__((preserve_access_index));

// onload_guard refuses the rings of such a socket. No limit of the kernel's counts their
// memory. It runs at each setsockopt(2) of the machine, those of io_uring and of 32 bits
// included. ret is the answer of what was asked before.
SEC("fmod_ret/security_socket_setsockopt")
int onload_guard(__u64 *ctx)
{
	struct socket *s = (struct socket *)ctx[0];
	int level = ctx[1], option = ctx[2], ret = ctx[3];

	if (ret || level != SOL_PACKET || (option != PACKET_RX_RING && option != PACKET_TX_RING))
		return ret;
	return s->sk->sk_mark == PACKET_MARK ? -EPERM : 0;
}

char _license[] SEC("license") = "Dual BSD/GPL";
