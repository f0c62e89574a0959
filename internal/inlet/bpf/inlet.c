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

#define PORTS 65536 /* of each protocol */
#define PORT_WORDS (2 * PORTS / 4)
#define FLOWS (1 << 18)
#define FLOW_WORDS (FLOWS / 8)

#define CHUNK 256
#define MAX_LEN 65535 /* of a packet */
#define CUT_LEN 65280 /* whole chunks of a longer one (BIG TCP) */

// The flows that are ours, as user space counts them: 16 bits for each local
// port, of TCP and then of UDP, and 8 for each hash of a flow. A flow of another
// program is never ours, since its port is not; one of our ports' clients is by
// chance, and then our stack answers it.
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, PORT_WORDS + FLOW_WORDS);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, __u64);
} known SEC(".maps");

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

static __always_inline __u64 field(__u32 word, __u32 i, __u32 bits)
{
	__u32 per = 64 / bits;
	__u32 key = word + i / per;
	__u64 *w = bpf_map_lookup_elem(&known, &key);

	return w ? *w >> (i % per * bits) & ((1 << bits) - 1) : 0;
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
	if (!field(0, udp * PORTS + (lport & (PORTS - 1)), 16))
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
	if (!field(PORT_WORDS, h & (FLOWS - 1), 8))
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
	__u32 len = skb->len > MAX_LEN ? CUT_LEN : skb->len;
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
	p->cut = skb->len > MAX_LEN;
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
