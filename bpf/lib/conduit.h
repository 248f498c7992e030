/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-3-Clause) */
/* The conduit between two identities: class pair and transport lead to a sorted table of port
 * ranges. The cost does not depend on how many conduits the policy has. */
#ifndef PENSTOCK_CONDUIT_H
#define PENSTOCK_CONDUIT_H

#include "identity.h"

/* 2^13 - 1 ranges a pair: more than the compiler of the policy lets through. */
#define RANGE_STEPS 13

struct search {
	void *map;
	__u32 low;
	__u32 high; /* one past the last */
	__u32 conduit;
	__u16 port;
	__u8 only_whole; /* only a range that covers every port counts */
	__u8 whole;
};

/* What there is between two classes over a transport. */
struct coverage {
	__u32 conduit; /* that covers the port, or 0 */
	__u32 observed; /* one of several that are all observed, or 0 */
	__u8 paired;   /* there is some conduit */
	__u8 whole;    /* it covers every port */
	__u8 reserved[2];
};

static long search_step(__u32 step, struct search *s)
{
	__u32 middle = (s->low + s->high) / 2;
	struct range *r;

	if (s->low >= s->high)
		return 1;
	r = bpf_map_lookup_elem(s->map, &middle);
	if (!r)
		return 1;
	if (s->port < r->low) {
		s->high = middle;
		return 0;
	}
	if (s->port > r->high) {
		s->low = middle + 1;
		return 0;
	}
	s->whole = r->low == 0 && r->high == 0xffff;
	if (s->whole || !s->only_whole)
		s->conduit = r->conduit;
	return 1;
}

/* Finds the conduit that lets class from reach port on class to. */
int __noinline conduit_between(__u32 index, struct pair_key *key, __u16 port, __u8 only_whole,
			       struct coverage *found)
{
	struct search s = {.port = port, .only_whole = only_whole};
	void *map = bpf_map_lookup_elem(&pairs, &index);
	struct pair *p;

	if (!map || !key || !found)
		return 0;
	p = bpf_map_lookup_elem(map, key);
	if (!p)
		return 0;
	found->paired = 1;
	found->observed = p->observed;
	s.map = bpf_map_lookup_elem(&ranges, &index);
	if (!s.map)
		return 0;
	s.low = p->first;
	s.high = p->first + p->count;
	for (int i = 0; i < RANGE_STEPS; i++)
		if (search_step(i, &s))
			break;
	found->conduit = s.conduit;
	found->whole = s.whole;
	return 0;
}

static __always_inline struct conduit *conduit(__u32 index, __u32 id)
{
	void *map = bpf_map_lookup_elem(&conduits, &index);

	return map ? bpf_map_lookup_elem(map, &id) : NULL;
}

/* What a conduit of the generation with the index has counted on this CPU. */
static __always_inline struct conduit_counter *counter_of(__u32 index, __u32 id)
{
	if (id >= MAX_CONDUITS)
		return NULL;
	id += index * MAX_CONDUITS;
	return bpf_map_lookup_elem(&conduit_counters, &id);
}

#endif
