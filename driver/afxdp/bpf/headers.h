// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// The headers of packets, as they are on the wire.

#pragma once

#include <linux/types.h>

#define P_8021Q 0x8100
#define P_8021AD 0x88a8
#define P_IPV4 0x0800
#define P_IPV6 0x86dd

#define PROTO_HOPOPTS 0
#define PROTO_ICMP 1
#define PROTO_TCP 6
#define PROTO_UDP 17
#define PROTO_ROUTING 43
#define PROTO_FRAGMENT 44
#define PROTO_ICMPV6 58
#define PROTO_DSTOPTS 60

struct addr {
	__u32 w[4]; /* IPv4 in w[0] */
};

struct ethhdr {
	__u8 dst[6], src[6];
	__be16 proto;
};

struct vlanhdr {
	__be16 tci, proto;
};

struct ipv4hdr {
	__u8 vihl, tos;
	__be16 len, id, frag;
	__u8 ttl, proto;
	__be16 check;
	__u32 src, dst;
};

struct ipv6hdr {
	__u8 vtc;
	__u8 flow[3];
	__be16 len;
	__u8 next, hops;
	struct addr src, dst;
};

// exthdr is the common part of the extension headers that are read, or a fragment
// header.
struct exthdr {
	__u8 next, len; /* len: in 8 bytes, without the first; reserved in a fragment header */
	union {
		struct {
			__u8 type, left; /* routing */
			__u8 data[4];
		};
		struct {
			__be16 off; /* lowest bit: more fragments */
			__be32 id;
		} __attribute__((packed)) frag;
	};
};
