//go:build ignore

// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// Takes the packets of user-space flows from the kernel where it looks for their
// socket. onload_lookup is asked for packets that no connected socket has
// (Documentation/bpf/prog_sk_lookup.rst), and gives those of our flows to a sink:
// a socket whose filter writes each packet to a ring, and has the kernel drop it
// without an answer.

#include <linux/bpf.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define AF_INET 2
#define PROTO_TCP 6
#define PROTO_UDP 17

#define PORT_WORDS (2 * 65536 / 4)
#define BUCKETS (1 << 16)
#define SLOTS 8

#define LO 1 /* the index of the loopback link, of each namespace */

#define CHUNK 256
#define MAX_TCP 65515 /* of a segment: with the IPv4 header it has 65535 bytes */
#define CUT_TCP 65280 /* whole chunks of a longer one (BIG TCP) */

// The flows that are ours, which user space writes (known.go). ports has how many
// each local port has, 16 bits of TCP and then of UDP: most other packets need no
// more than that. flows has the hash of each flow, in one of two buckets; 0 is a free
// slot. Two flows have the same hash once in 2^64: a connection of the kernel's at a
// port of ours stays the kernel's.
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, PORT_WORDS);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, __u64);
} ports SEC(".maps");

struct bucket {
	__u64 slots[SLOTS];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, BUCKETS);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct bucket);
} flows SEC(".maps");

// By protocol and family: TCP, then UDP; of each IPv4, then IPv6.
struct {
	__uint(type, BPF_MAP_TYPE_SOCKMAP);
	__uint(max_entries, 4);
	__type(key, __u32);
	__type(value, __u64);
} sinks SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 20);
} packets SEC(".maps");

// Packets that found no room on the ring.
__u64 lost;

volatile const __u64 seed;

// What stands before each packet's transport header on the ring.
struct packet {
	__u32 link; /* that it came by */
	__u32 len; /* from the transport header on, bytes */
	__u32 gso_size; /* it is several packets, joined; 0: it is one */
	__u32 cut; /* the rest of it was left out */
	__u32 proto;
	__u32 pad;
	__u8 header[40]; /* of IP, without options */
};

static __always_inline __u64 mix(__u64 h, __u32 w)
{
	h = (h ^ w) * 0x9e3779b97f4a7c15ULL;
	return h ^ (h >> 32);
}

static __always_inline int has_port(__u32 port)
{
	__u32 key = port / 4;
	__u64 *w = bpf_map_lookup_elem(&ports, &key);

	return w && *w >> (port % 4 * 16) & 0xffff;
}

static __always_inline int has_flow(__u32 bucket, __u64 hash)
{
	struct bucket *b = bpf_map_lookup_elem(&flows, &bucket);
	int i;

	if (!b)
		return 0;
#pragma clang loop unroll(full)
	for (i = 0; i < SLOTS; i++)
		if (*(volatile __u64 *)&b->slots[i] == hash)
			return 1;
	return 0;
}

SEC("sk_lookup")
int onload_lookup(struct bpf_sk_lookup *ctx)
{
	__u32 lport = ctx->local_port, rport = bpf_ntohs(ctx->remote_port);
	__u32 udp = ctx->protocol == PROTO_UDP, six = ctx->family != AF_INET;
	__u32 key = udp * 2 + six;
	struct bpf_sock *sk;
	__u64 h = seed;

	if (!udp && ctx->protocol != PROTO_TCP)
		return SK_PASS;
	// What comes by lo was sent to an address of this host, so by a socket of the
	// kernel's. A first SYN would be none of ours either, but the context does not
	// show the segment.
	if (ctx->ingress_ifindex == LO)
		return SK_PASS;
	if (!has_port(udp * 65536 + (lport & 0xffff)))
		return SK_PASS;
	if (six) {
		h = mix(h, ctx->local_ip6[0]);
		h = mix(h, ctx->local_ip6[1]);
		h = mix(h, ctx->local_ip6[2]);
		h = mix(h, ctx->local_ip6[3]);
		h = mix(h, ctx->remote_ip6[0]);
		h = mix(h, ctx->remote_ip6[1]);
		h = mix(h, ctx->remote_ip6[2]);
		h = mix(h, ctx->remote_ip6[3]);
		// Without this clang joins the ends of both branches, which would read
		// the context at an offset that varies: the verifier refuses that.
		asm volatile("# IPv6" : "+r"(h));
	} else {
		h = mix(h, ctx->local_ip4);
		h = mix(h, ctx->remote_ip4);
		asm volatile("# IPv4" : "+r"(h));
	}
	h = mix(h, lport << 16 | rport);
	h = mix(h, udp);
	h += !h; // 0 is a free slot
	if (!has_flow(h & (BUCKETS - 1), h) && !has_flow(h >> 32 & (BUCKETS - 1), h))
		return SK_PASS;
	sk = bpf_map_lookup_elem(&sinks, &key);
	if (!sk)
		return SK_PASS;
	// Instead of what another engine's program has chosen by chance.
	bpf_sk_assign(ctx, sk, BPF_SK_LOOKUP_F_REPLACE);
	bpf_sk_release(sk);
	return SK_PASS;
}

// What take is about.
struct taking {
	struct bpf_dynptr record;
	struct __sk_buff *skb;
	__u32 len;
	__u32 failed;
};

// copy_chunk writes the i-th chunk of the packet. A function for bpf_loop is
// verified once, the body of a loop once for each turn: that takes a tenth of a
// second.
static long copy_chunk(__u32 i, struct taking *t)
{
	__u32 off = i * CHUNK;
	__u64 n = t->len - off;
	void *to = bpf_dynptr_data(&t->record, sizeof(struct packet) + off, CHUNK);

	if (n > CHUNK)
		n = CHUNK;
	asm volatile("" : "+r"(n)); // else clang knows what the verifier does not
	if (!to || n == 0 || n > CHUNK || bpf_skb_load_bytes(t->skb, off, to, n))
		return t->failed = 1;
	return 0;
}

// take writes a packet, whose data begins at its transport header, to the ring.
static __always_inline int take(struct __sk_buff *skb, __u8 proto)
{
	__u32 cut = proto == PROTO_TCP && skb->len > MAX_TCP;
	__u32 len = cut ? CUT_TCP : skb->len;
	__u32 chunks = (len + CHUNK - 1) / CHUNK;
	struct taking t = { .skb = skb, .len = len };
	struct packet *p;

	if (bpf_ringbuf_reserve_dynptr(&packets, sizeof(*p) + chunks * CHUNK, 0, &t.record))
		goto drop;
	p = bpf_dynptr_data(&t.record, 0, sizeof(*p));
	if (!p)
		goto drop;
	p->link = skb->ifindex;
	p->len = len;
	p->gso_size = skb->gso_size;
	p->cut = cut;
	p->proto = proto;
	if (bpf_skb_load_bytes_relative(skb, 0, p->header, 20, BPF_HDR_START_NET))
		goto drop;
	if (p->header[0] >> 4 == 6 &&
	    bpf_skb_load_bytes_relative(skb, 20, p->header + 20, 20, BPF_HDR_START_NET))
		goto drop;
	bpf_loop(chunks, copy_chunk, &t, 0);
	if (t.failed)
		goto drop;
	bpf_ringbuf_submit_dynptr(&t.record, 0);
	return 0;
drop:
	bpf_ringbuf_discard_dynptr(&t.record, 0);
	__sync_fetch_and_add(&lost, 1);
	return 0;
}

SEC("socket/tcp")
int onload_tcp(struct __sk_buff *skb)
{
	return take(skb, PROTO_TCP);
}

SEC("socket/udp")
int onload_udp(struct __sk_buff *skb)
{
	return take(skb, PROTO_UDP);
}

char _license[] SEC("license") = "Dual BSD/GPL";
