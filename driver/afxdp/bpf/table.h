// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// The table of the ports and flows that have an owner.

#pragma once

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "headers.h"

// Whose packets are. Keep in step with the constants of bpf.go.
enum owner {
	OWNER_KERNEL,  /* a flow of a port that somebody else has */
	OWNER_SOCKETS, /* the process that has the interface's queues */
	OWNER_LINK,    /* the process that has the first of links; the next one's is 1 more, and so on */
};

#define NO_ENTRY -1

struct port_key {
	struct addr local; /* zero: any */
	__be16 port; /* zero: there is some port */
	__u8 proto;
	__u8 family; /* 4 or 6 */
};

struct flow_key {
	struct addr local, remote;
	__be16 lport, rport;
	__u8 proto;
	__u8 family;
	__u16 pad;
};

struct port_entry {
	__u32 owner;
	__u32 priority; /* of a group: the SO_PRIORITY of its owner's kernel sockets */
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct port_key);
	__type(value, struct port_entry);
} ports SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 262144);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct flow_key);
	__type(value, __u32); /* its owner */
} flows SEC(".maps");

struct local {
	struct addr addr;
	__u32 family;
};

// addresses are those of the interface, where it has links. The source of what a link
// sends is one of them: a socket that is bound to another address proves nothing
// (IP_FREEBIND). The destination of what it receives is one, too: a port of any address
// does not have the packets that this host forwards.
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__type(key, struct local);
	__type(value, __u8);
} addresses SEC(".maps");

static __always_inline int interface_address(struct flow_key *k)
{
	struct local a = { .addr = k->local, .family = k->family };

	return bpf_map_lookup_elem(&addresses, &a) != 0;
}

// have_flows is 0 while there are no flow entries: no packet pays for the lookup then.
volatile __u32 have_flows;

// lookup returns the owner of a flow, or NO_ENTRY. The order is: the exact flow,
// then (protocol, local address, port), then (protocol, any address of the family,
// port). It is a global function: the verifier looks at those once, and not once for
// each call.
__attribute__((noinline)) int lookup(struct flow_key *k)
{
	struct port_key pk = {};
	struct port_entry *e;
	__u32 *owner;

	if (!k)
		return NO_ENTRY;
	if (!k->lport)
		return NO_ENTRY; /* the entry of port 0 only says that there is some port */
	if (have_flows) {
		owner = bpf_map_lookup_elem(&flows, k);
		if (owner)
			return *owner;
	}
	pk.local = k->local;
	pk.port = k->lport;
	pk.proto = k->proto;
	pk.family = k->family;
	e = bpf_map_lookup_elem(&ports, &pk);
	if (e)
		return e->owner;
	__builtin_memset(&pk.local, 0, sizeof(pk.local));
	e = bpf_map_lookup_elem(&ports, &pk);
	if (e)
		return e->owner;
	return NO_ENTRY;
}
