/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-3-Clause) */
/* The share of a queue that one identity may fill, so that a flood of one leaves room for all
 * others. It is asked before a frame is handed over. Whoever began the flow has one share for
 * everything it sends, to whomever. Whoever answers has one for each that it answers: else a flood of
 * requests would use up the device's share by its answers, and a device that floods its clients' own. */
#ifndef PENSTOCK_SHARE_H
#define PENSTOCK_SHARE_H

#include "decision.h"

/* The queue of inspection that a flow's frames wait in. */
static __always_inline __u32 queue_of(struct control_block *control, __u32 slot, __u8 opens)
{
	return ((slot & control->lane_mask & (MAX_LANES - 1)) << 1) | (opens ? 1 : 0);
}

static __always_inline __u32 queues_of(struct control_block *control)
{
	return 2 * (control->lane_mask + 1);
}

static __always_inline __u32 share_of(struct control_block *control, struct decision *d, __u32 number)
{
	__u32 owner = d->source, half = 0;

	if (d->reverse) {
		owner = (d->source * 0x9e3779b1u) ^ d->destination;
		owner = (owner ^ (owner >> 15)) * 0x85ebca6bu;
		owner ^= owner >> 13;
		half = MAX_SHARES / 2;
	}
	return half + ((owner * queues_of(control) + number) & (MAX_SHARES / 2 - 1));
}

/* How much of it waits is counted in windows, without a word from user space about any identity.
 * A window ends when everything that was handed over before it began has been answered, so that
 * at most what was handed over in this window and in the one before is still waiting. Whatever
 * is miscounted here, by CPUs that race or because identities were numbered anew, is forgotten
 * two windows later. The verdict loop counts what is lost on the way as answered as soon as it
 * finds the queue empty: an identity that is refused for that is so for a moment. */
static __always_inline int within_share(struct control_block *control, struct queue_state *queue,
					__u32 number, struct decision *d)
{
	__u32 most = control->queue_share;
	__u64 answered = *(volatile __u64 *)&queue->answered;
	struct queue_share *share;
	__u32 at;

	at = share_of(control, d, number);
	share = bpf_map_lookup_elem(&queue_shares, &at);
	if (!share)
		return 0;
	if ((__s64)(answered - share->begun) >= 0) {
		share->before = share->frames;
		share->frames = 0;
		share->begun = *(volatile __u64 *)&queue->handed;
		if ((__s64)(answered - share->begun) >= 0)
			share->before = 0;
	}
	if (most && share->frames + share->before >= most)
		return 0;
	share->frames++;
	__sync_fetch_and_add(&queue->handed, 1);
	return 1;
}

#endif
