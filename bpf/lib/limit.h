/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-3-Clause) */
/* Rate limits without a lock: one word says when the next frame would be on time, and a frame
 * moves it by its cost unless that would be further ahead of the clock than the burst allows. */
#ifndef PENSTOCK_LIMIT_H
#define PENSTOCK_LIMIT_H

#include "decision.h"

#define LIMIT_TRIES 4

/* Takes cost from the word at due. A CPU that loses the race more often than it may try is
 * refused: then others have just been let through. */
static __always_inline int take_from(__u64 *due, __u64 now, __u64 cost, __u64 burst)
{
#pragma unroll
	for (int i = 0; i < LIMIT_TRIES; i++) {
		__u64 old = *(volatile __u64 *)due;
		__u64 next = (old > now ? old : now) + cost;

		if (next - now > burst)
			return -1;
		if (__sync_val_compare_and_swap(due, old, next) == old)
			return 0;
	}
	return -1;
}

/* Whether a frame keeps to the limit. A frame that is within one measure and not within the
 * other has used up the first: what is refused counts, or a flood would never wear off. */
static __always_inline int within(struct limit *l, struct bucket *b, __u64 now, __u32 length)
{
	if (l->frame_cost && take_from(&b->frames, now, l->frame_cost, l->frame_burst))
		return 0;
	if (l->kib_cost && take_from(&b->bytes, now, length * l->kib_cost / 1024, l->byte_burst))
		return 0;
	return 1;
}

int __noinline within_conduit_limit(struct frame *f, struct decision *d)
{
	struct conduit *c;
	struct bucket *b;
	__u32 at;

	if (!f || !d)
		return 0;
	c = conduit(d->index, d->conduit);
	at = d->index * MAX_CONDUITS + d->conduit;
	b = bpf_map_lookup_elem(&buckets, &at);
	return c && b && within(&c->limit, b, bpf_ktime_get_ns(), f->length);
}

enum storm { STORM_BROADCAST, STORM_MULTICAST, STORM_CONTROL };

static __always_inline int within_storm(struct frame *f, struct limit *l, enum storm kind)
{
	__u32 at = (f->side == SIDE_B ? STORM_KINDS : 0) + kind;
	struct bucket *b = bpf_map_lookup_elem(&storm_buckets, &at);

	return b && within(l, b, bpf_ktime_get_ns(), f->length);
}

/* Broadcast and multicast of each port, before anything else is asked of them. */
int __noinline within_storm_limit(struct frame *f, struct policy_defaults *defaults)
{
	__u32 difference = 0;
	__u8 *mac;

	if (!f || !defaults)
		return 0;
	mac = destination_mac(f);
	if (!is_multicast_mac(mac))
		return 1;
#pragma unroll
	for (int i = 0; i < 6; i++)
		difference |= mac[i] ^ 0xff;
	return difference ? within_storm(f, &defaults->multicast, STORM_MULTICAST) :
			    within_storm(f, &defaults->broadcast, STORM_BROADCAST);
}

/* Link-local control traffic by itself: a flood of other multicast must not stop what keeps rings
 * and clocks together, and nobody may flood with what stands for it. */
int __noinline within_control_limit(struct frame *f, struct policy_defaults *defaults)
{
	return f && defaults && within_storm(f, &defaults->control, STORM_CONTROL);
}

#endif
