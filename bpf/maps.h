/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-3-Clause) */
/* The maps. Those of the policy exist twice behind an outer map: the generation's low bit says
 * which is in force. Inner maps are made by user space in the size that the policy needs; the
 * sizes given here are those of the empty templates that the verifier sees. */
#ifndef PENSTOCK_MAPS_H
#define PENSTOCK_MAPS_H

#include "types.h"

#define MAX_FLOWS 131072
#define MAX_SPILL (MAX_FLOWS / SPILL_SHARE)
#define MAX_SLOTS 65536
#define MAX_IDENTITIES 65536
#define MAX_CONDUITS 16384
#define MAX_SHARES 262144 /* a power of two */
#define MAX_IO 4096
#define IO_PLACES 8193 /* two for each, and none */
#define GENERATIONS 2
#define STORM_KINDS 3

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct control_block);
} control SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, GENERATIONS);
	__type(key, __u32);
	__type(value, struct policy_defaults);
} defaults SEC(".maps");

#define GENERATION_OF(name, inner)                     \
	struct {                                       \
		__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS); \
		__uint(max_entries, GENERATIONS);      \
		__type(key, __u32);                    \
		__array(values, inner);                \
	} name SEC(".maps")

struct mac_map {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct mac_key);
	__type(value, __u32);
};
GENERATION_OF(macs, struct mac_map);

struct address_map {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct address_key);
	__type(value, __u32);
};
GENERATION_OF(addresses, struct address_map);

struct identity_map {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_INNER_MAP);
	__type(key, __u32);
	__type(value, struct identity);
};
GENERATION_OF(identities, struct identity_map);

struct pair_map {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct pair_key);
	__type(value, struct pair);
};
GENERATION_OF(pairs, struct pair_map);

struct range_map {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_INNER_MAP);
	__type(key, __u32);
	__type(value, struct range);
};
GENERATION_OF(ranges, struct range_map);

struct conduit_map {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_INNER_MAP);
	__type(key, __u32);
	__type(value, struct conduit);
};
GENERATION_OF(conduits, struct conduit_map);

/* Per-CPU arrays cannot vary in size behind an outer map, so both generations share one:
 * conduit c of generation g counts at (g & 1) * MAX_CONDUITS + c. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, GENERATIONS * MAX_CONDUITS);
	__type(key, __u32);
	__type(value, struct conduit_counter);
} conduit_counters SEC(".maps");

/* What goes the short way (lib/known.h), beside what is in conduit_counters: where many
 * conduits are busy each frame waits for its counter, and a CPU's word here is found without a pointer
 * that has to be read first, and shares its cache line with seven others. CPU n counts conduit c of
 * generation g at (n * GENERATIONS + (g & 1)) * MAX_CONDUITS + c; user space makes it for all CPUs. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, GENERATIONS * MAX_CONDUITS);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, __u64);
} conduit_passes SEC(".maps");

/* User space's own: what the conduits of a generation had counted before it, filed likewise. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, GENERATIONS * MAX_CONDUITS);
	__type(key, __u32);
	__type(value, struct tally);
} tallies SEC(".maps");

/* How far the rate limits are used up, filed as the counters are. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, GENERATIONS * MAX_CONDUITS);
	__type(key, __u32);
	__type(value, struct bucket);
} buckets SEC(".maps");

/* The same for what floods: broadcast, multicast and link-local control of side a, then of side b. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2 * STORM_KINDS);
	__type(key, __u32);
	__type(value, struct bucket);
} storm_buckets SEC(".maps");

/* The flow table, see lib/table.h: mapped, so that an entry never lies in two cache lines, and user
 * space reads without a system call. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, MAX_FLOWS + MAX_SPILL);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct flow);
} flows SEC(".maps");

/* Of each entry, where the flows are whose home it is. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, MAX_FLOWS + MAX_SPILL);
	__type(key, __u32);
	__type(value, __u32);
} flow_hops SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, MAX_FLOWS + MAX_SPILL);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct flow_record);
} flow_records SEC(".maps");

/* How many flows each identity has begun, so that none can use up the table. Counted up here and
 * set right by user space, which walks the table anyway: an index is an identity of the
 * generation in force. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, MAX_IDENTITIES);
	__type(key, __u32);
	__type(value, __u32);
} flow_counts SEC(".maps");

/* Slots that no flow holds, filled by user space once; whoever ends a flow gives its slot back. */
struct {
	__uint(type, BPF_MAP_TYPE_QUEUE);
	__uint(max_entries, MAX_SLOTS);
	__type(value, __u32);
} free_slots SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, MAX_SLOTS);
	__type(key, __u32);
	__type(value, struct slot);
} slots SEC(".maps");

/* The queues of inspection; user space maps them into its memory, too. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, MAX_QUEUES);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct queue_state);
} queues SEC(".maps");

/* What each identity has waiting in each queue: in the first half of those that begin flows, in the
 * second of those that answer, by whom they answer. Where there are more than there is room for with
 * so many queues, several have one share together. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, MAX_SHARES);
	__type(key, __u32);
	__type(value, struct queue_share);
} queue_shares SEC(".maps");

/* Open I/O connections, for each direction its key. Written by user space. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 2 * MAX_IO);
	__type(key, struct io_key);
	__type(value, struct io_half);
} io_halves SEC(".maps");

/* Where a direction stands: user space writes it before the half is there, XDP afterwards. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, IO_PLACES);
	__type(key, __u32);
	__type(value, struct io_state);
} io_states SEC(".maps");

/* That of the place p in generation g lies at (g & 1) * IO_PLACES + p. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, GENERATIONS * IO_PLACES);
	__type(key, __u32);
	__type(value, struct io_approval);
} io_approvals SEC(".maps");

/* Connections by number, for the daemon that comes after. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_IO);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u32);
	__type(value, struct io_connection);
} io_connections SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, struct io_key);
	__type(value, struct io_candidate);
} io_candidates SEC(".maps");

/* Side to port. */
struct {
	__uint(type, BPF_MAP_TYPE_DEVMAP);
	__uint(max_entries, 3);
	__type(key, __u32);
	__type(value, __u32);
} ports SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, REASON_COUNT);
	__type(key, __u32);
	__type(value, struct reason_counter);
} reasons SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 20);
} events SEC(".maps");

/* One ring for both sides: the copies of a flow stay in the order of the wire. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 22);
} tap SEC(".maps");

/* By side, from 1. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 3);
	__type(key, __u32);
	__type(value, struct control_counter);
} control_counters SEC(".maps");

struct tap_counter {
	__u64 copied;
	__u64 lost;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct tap_counter);
} tap_counters SEC(".maps");

#endif
