//go:build ignore
// SPDX-License-Identifier: (GPL-2.0-only OR BSD-3-Clause)
/* What a verdict does not see: a frame that is redirected may find the other port down, too small
 * for it or full. The kernel says so at tracepoints, where these programs count it. By themselves,
 * because they read the kernel's own structures and need its type information (BTF); the fast path
 * does not need them. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* The kernel's, as far as they are read. */
struct ns_common {
	unsigned int inum;
} __attribute__((preserve_access_index));

struct net {
	struct ns_common ns;
} __attribute__((preserve_access_index));

typedef struct {
	struct net *net;
} possible_net_t;

struct net_device {
	int ifindex;
	possible_net_t nd_net;
} __attribute__((preserve_access_index));

/* Which frames are ours: of the fast path's map of ports, and between these two in this network
 * namespace. */
volatile const __u32 ports_map = 0;
volatile const __u32 namespace = 0;
volatile const __u32 port_a_index = 0;
volatile const __u32 port_b_index = 0;

/* By the side that the frames should have left on, from 1. */
struct undelivered_counter {
	__u64 refused; /* the port is down, or the frame is longer than it takes */
	__u64 dropped; /* the device had no room */
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 3);
	__type(key, __u32);
	__type(value, struct undelivered_counter);
} undelivered SEC(".maps");

const struct undelivered_counter *keep_undelivered __attribute__((unused));

static __always_inline struct undelivered_counter *counter_of(__u32 side)
{
	return bpf_map_lookup_elem(&undelivered, &side);
}

/* xdp_redirect_err(dev, program, target, error, map type, map id, index) */
SEC("raw_tp/xdp_redirect_err")
int redirect_err(struct bpf_raw_tracepoint_args *ctx)
{
	struct undelivered_counter *counter;

	if ((__u32)ctx->args[5] != ports_map)
		return 0;
	counter = counter_of(ctx->args[6]);
	if (counter)
		counter->refused++;
	return 0;
}

/* xdp_devmap_xmit(from, to, sent, drops, error), once for each bulk of frames */
SEC("raw_tp/xdp_devmap_xmit")
int devmap_xmit(struct bpf_raw_tracepoint_args *ctx)
{
	struct net_device *to = (void *)ctx->args[1];
	struct undelivered_counter *counter;
	int drops = ctx->args[3];
	__u32 index;

	if (drops <= 0)
		return 0;
	index = BPF_CORE_READ(to, ifindex);
	if ((index != port_a_index && index != port_b_index) || BPF_CORE_READ(to, nd_net.net, ns.inum) != namespace)
		return 0;
	counter = counter_of(index == port_a_index ? 1 : 2);
	if (counter)
		counter->dropped += drops;
	return 0;
}
