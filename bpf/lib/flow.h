/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-3-Clause) */
/* Live conversations. A flow's entry answers for its frames in one look-up, in both directions;
 * identity and conduit are asked when there is none, when the policy changed, or for a SYN,
 * which always has to be permitted in its own direction. */
#ifndef PENSTOCK_FLOW_H
#define PENSTOCK_FLOW_H

#include "decide.h"
#include "limit.h"

/* Idle limits, ns. User space deletes what is over them; here they keep a dead entry from
 * answering when user space does not run. */
#define IDLE_TCP_OPEN	 (7200ull * 1000000000)
#define IDLE_TCP_HALF	 (30ull * 1000000000)
#define IDLE_TCP_CLOSED	 (10ull * 1000000000)
#define IDLE_UDP	 (60ull * 1000000000)
#define IDLE_UDP_STREAM	 (180ull * 1000000000)
#define IDLE_OTHER	 (30ull * 1000000000)

/* Hard limits, ns: after them identity and conduit are asked again, whatever the flow does. */
#define HARD_TCP   (86400ull * 1000000000)
#define HARD_OTHER (3600ull * 1000000000)
#define HARD_WHOLE (10ull * 1000000000) /* keeps the entry of the fragments alive beside its own */

/* Whether more than limit, in ns, lies between then and this frame. Two CPUs may read the clock a
 * tick apart, so that then can be the later one: that is no time, not half an eternity. */
static __always_inline int longer_ago(struct frame *f, __u64 then, __u64 limit)
{
	return (__s64)((f->ticks - then) * f->tick) > (__s64)limit;
}

static __always_inline int flow_closed(struct flow *w)
{
	return (w->state & FLOW_RST) ||
	       (w->state & (FLOW_FIN_A | FLOW_FIN_B)) == (FLOW_FIN_A | FLOW_FIN_B);
}

static __always_inline __u64 idle_limit(__u8 protocol, struct flow *w)
{
	switch (protocol) {
	case IPPROTO_TCP:
		if (flow_closed(w))
			return IDLE_TCP_CLOSED;
		return w->state & FLOW_ANSWERED ? IDLE_TCP_OPEN : IDLE_TCP_HALF;
	case IPPROTO_UDP:
		return w->state & FLOW_ANSWERED ? IDLE_UDP_STREAM : IDLE_UDP;
	}
	return IDLE_OTHER;
}

/* ICMP has no ports: only an echo request of the initiator and the responder's reply to it
 * belong to a flow, or an echo would carry every other message with its identifier through. */
static __always_inline int icmp_belongs(struct frame *f, struct flow *w)
{
	int forward = w->initiator == f->side;

	if (f->fragment)
		return 1; /* there is such an entry only under a conduit for every type */
	switch (f->key.protocol) {
	case IPPROTO_ICMP:
		return f->icmp_type == (forward ? 8 : 0);
	case IPPROTO_ICMPV6:
		return f->icmp_type == (forward ? 128 : 129);
	}
	return 1;
}

static __always_inline struct flow *live_flow(struct frame *f)
{
	struct flow *w;

	/* Flows lead to groups, never back from one: a group is no sender (IEEE 802.3 3.2.3). */
	if (is_multicast_mac(source_mac(f)))
		return NULL;
	if (!f->is_ip || f->deep_tags || f->source_routed)
		return NULL;
	w = bpf_map_lookup_elem(&flows, &f->key);
	if (!w || longer_ago(f, w->seen, idle_limit(f->key.protocol, w)) || !icmp_belongs(f, w))
		return NULL;
	return w;
}

static __always_inline void count_frame(struct frame *f, struct flow *w)
{
	struct flow_direction *direction = &w->direction[f->side == SIDE_B];

	direction->frames++;
	direction->bytes += f->length;
	w->seen = f->ticks;
	if (f->side != w->initiator && !(w->state & FLOW_ANSWERED))
		w->state |= FLOW_ANSWERED;
	if (f->key.protocol == IPPROTO_TCP && (f->tcp_flags & (TCP_FIN | TCP_RST))) {
		if (f->tcp_flags & TCP_RST)
			w->state |= FLOW_RST;
		if (f->tcp_flags & TCP_FIN)
			w->state |= f->side == SIDE_A ? FLOW_FIN_A : FLOW_FIN_B;
	}
}

/* Takes a free slot for an inspected flow and writes down whose it is. 0 is no slot: user space
 * never hands out the slot with number 0. */
static __always_inline __u32 take_slot(struct flow_key *key)
{
	struct slot *s;
	__u32 slot, number;

	if (bpf_map_pop_elem(&free_slots, &slot))
		return 0;
	number = slot & MARK_SLOT_MASK;
	s = bpf_map_lookup_elem(&slots, &number);
	if (!s)
		return 0;
	s->key = *key;
	s->slot = slot;
	return slot;
}

/* The same slot for its next flow. */
static __always_inline __u32 next_slot(__u32 slot)
{
	return (slot & MARK_SLOT_MASK) | ((slot + MARK_SLOT_GEN_ONE) & MARK_SLOT_GEN_MASK);
}

/* Makes a slot's present generation name nothing more. Of several CPUs that try at once one
 * succeeds, and gets the next generation; the others get 0. */
static __always_inline __u32 retire_slot(__u32 slot)
{
	__u32 number = slot & MARK_SLOT_MASK, next = next_slot(slot);
	struct slot *s = bpf_map_lookup_elem(&slots, &number);

	if (!s || __sync_val_compare_and_swap(&s->slot, slot, next) != slot)
		return 0;
	return next;
}

/* The same flow under a new slot generation: the slow path begins its stream anew. For what
 * it did not see, in an outage. Where another CPU is at it, the frame carries a generation that
 * is over, and is dropped in the queue. */
static __always_inline __u32 bump_slot(struct flow *w)
{
	__u32 old = w->slot, next = retire_slot(old);

	if (!next)
		return old;
	w->slot = next;
	return next;
}

/* Writes the verdict into an entry that other CPUs and user space read meanwhile. The generation
 * comes last, behind a barrier: whoever sees it sees the verdict that belongs to it. */
/* By whom a flow is judged: by nobody in time, or by one of the two verdict loops. */
static __always_inline __u8 treatment_of(struct decision *d)
{
	return (d->observed ? FLOW_OBSERVED : 0) | (d->opens ? FLOW_OPENS : 0);
}

static __always_inline void adopt_decision(struct flow *w, struct frame *f, struct decision *d)
{
	w->decided = f->ticks;
	w->conduit = d->conduit;
	w->action = d->action;
	w->treatment = treatment_of(d) | (d->limited ? FLOW_LIMITED : 0) |
		       (d->whole && d->action == ACTION_ALLOW && !f->fragment ? FLOW_WHOLE : 0);
	w->initiator = d->reverse ? 3 - f->side : f->side;
	w->source = d->reverse ? d->destination : d->source;
	w->destination = d->reverse ? d->source : d->destination;
	__sync_lock_test_and_set(&w->generation, d->generation);
}

static __always_inline void discount(__u32 identity)
{
	__u32 *count = bpf_map_lookup_elem(&flow_counts, &identity);

	if (count && *count)
		__sync_fetch_and_add(count, -1);
}

/* Ends a conversation: what the policy no longer permits, or what has been over for long. Two
 * CPUs, or one and user space, may be at it at once: who deletes the entry gives the slot back. */
static __always_inline void end_flow(struct frame *f, struct flow *w)
{
	__u32 source = w->source, slot = w->slot;

	if (bpf_map_delete_elem(&flows, &f->key))
		return;
	discount(source);
	if (slot)
		slot = retire_slot(slot);
	if (slot)
		bpf_map_push_elem(&free_slots, &slot, 0);
}

/* Counts a flow to the identity that begins it. Fails when it has as many as one may have. */
static __always_inline int count_to(__u32 identity)
{
	__u32 *count = bpf_map_lookup_elem(&flow_counts, &identity);
	struct control_block *state;
	__u32 zero = 0;

	state = bpf_map_lookup_elem(&control, &zero);
	if (!count || !state || *count >= state->flow_quota)
		return -1;
	__sync_fetch_and_add(count, 1);
	return 0;
}

/* A second entry, without ports, by which the fragments of an address-only conversation are
 * known, those of the answers too; renewed with the first. It may fail: then they are denied as
 * fragments. So they are where the first entry still has a slot from when it was inspected, which
 * must not be held twice. */
static __always_inline void begin_fragments(struct frame *f, struct flow *w)
{
	struct flow_key key = f->key;

	if (!(w->treatment & FLOW_WHOLE) || w->slot)
		return;
	key.port_a = 0;
	key.port_b = 0;
	key.fragment = 1;
	bpf_map_update_elem(&flows, &key, w, BPF_ANY);
}

/* Whether a connection in mid-stream may be one from before the start. Later it is one that was
 * forgotten, perhaps on purpose: the slow path ends it, and its client begins another. */
static __always_inline int adopting(void)
{
	struct control_block *state;
	__u32 zero = 0;

	state = bpf_map_lookup_elem(&control, &zero);
	return state && bpf_ktime_get_coarse_ns() < state->adopt_until;
}

/* Enters a permitted conversation. Fails as table_full, which an enforced conduit denies. */
int __noinline begin_flow(struct frame *f, struct decision *d)
{
	struct flow w = {}, *old;
	__u32 slot;

	if (!f || !d)
		return -1;
	old = bpf_map_lookup_elem(&flows, &f->key);
	if (old)
		end_flow(f, old);
	w.created = bpf_ktime_get_coarse_ns();
	if (count_to(d->reverse ? d->destination : d->source))
		return deny(d, REASON_TABLE_FULL);
	adopt_decision(&w, f, d);
	if (d->action == ACTION_INSPECT) {
		w.slot = take_slot(&f->key);
		if (!w.slot) {
			discount(w.source);
			return deny(d, REASON_TABLE_FULL);
		}
	}
	if (f->key.protocol == IPPROTO_TCP && !(f->tcp_flags & TCP_SYN) && adopting())
		w.state = FLOW_ADOPTED;
	count_frame(f, &w);
	if (bpf_map_update_elem(&flows, &f->key, &w, BPF_NOEXIST)) {
		/* No room, or another CPU was faster: TCP comes again. */
		discount(w.source);
		slot = w.slot ? retire_slot(w.slot) : 0;
		if (slot)
			bpf_map_push_elem(&free_slots, &slot, 0);
		return deny(d, REASON_TABLE_FULL);
	}
	begin_fragments(f, &w);
	d->slot = w.slot;
	d->announce = 1;
	return 0;
}

/* A conversation that is known but has to be asked for again: after a policy change, or
 * because a SYN begins it anew. The entry stays where it is, its slot with it. */
int __noinline renew_flow(struct frame *f, struct decision *d, struct flow *w)
{
	__u32 slot;

	if (!f || !d || !w)
		return -1;
	if (d->action == ACTION_INSPECT && !w->slot) {
		slot = take_slot(&f->key);
		if (!slot)
			return deny(d, REASON_TABLE_FULL);
		if (__sync_val_compare_and_swap(&w->slot, 0, slot)) {
			slot = retire_slot(slot); /* another CPU was faster */
			if (slot)
				bpf_map_push_elem(&free_slots, &slot, 0);
		}
	}
	/* What was not held until now, or by the other verdict loop, is met by the slow path in
	 * mid-stream, and what it may remember of the same key is from before. */
	if (w->action != d->action || (w->treatment & ~(FLOW_LIMITED | FLOW_WHOLE)) != treatment_of(d)) {
		w->state |= FLOW_ADOPTED;
		if (w->slot)
			bump_slot(w);
	}
	adopt_decision(w, f, d);
	if (is_opening_syn(f)) {
		d->announce = flow_closed(w);
		w->state = 0;
	}
	count_frame(f, w);
	begin_fragments(f, w);
	d->slot = w->slot;
	return 0;
}

static __always_inline void answer_from_flow(struct frame *f, struct decision *d, struct flow *w)
{
	d->action = w->action;
	d->reason = REASON_PERMITTED;
	d->conduit = w->conduit;
	d->observed |= w->treatment & FLOW_OBSERVED;
	d->limited = (w->treatment & FLOW_LIMITED) != 0;
	d->slot = w->slot;
	d->reverse = w->initiator != f->side;
	d->source = d->reverse ? w->destination : w->source;
	d->destination = d->reverse ? w->source : w->destination;
	count_frame(f, w);
}

static __always_inline int decide_syn(struct frame *f, struct decision *d, struct flow *w)
{
	int other_way = w && w->initiator != f->side && !flow_closed(w);

	if (permit_by_conduit(f, d, 0) < 0) {
		if (other_way) {
			deny(d, REASON_TCP_STATE);
			d->conduit = w->conduit;
			d->observed |= w->treatment & FLOW_OBSERVED;
		}
		return -1;
	}
	if (d->untracked)
		return 0;
	if (other_way)
		return deny(d, REASON_TCP_STATE);
	return w ? renew_flow(f, d, w) : begin_flow(f, d);
}

static __always_inline int decide_known(struct frame *f, struct decision *d, struct flow *w)
{
	if (permit_by_conduit(f, d, w->initiator != f->side) == 0 && !d->untracked)
		return renew_flow(f, d, w);
	if (d->untracked) {
		end_flow(f, w);
		return 0;
	}
	end_flow(f, w);
	return -1;
}

static __always_inline int decide_new(struct frame *f, struct decision *d, struct control_block *control)
{
	__u8 observed = d->observed;

	if (permit_by_conduit(f, d, 0) < 0) {
		__u8 reason = d->reason, observes = d->observed;

		d->observed = observed; /* not as the conduit of the other direction has it */
		if (!may_adopt_reverse(f, control) || permit_by_conduit(f, d, 1) < 0) {
			d->observed = observes;
			return deny(d, reason);
		}
	} else if (!d->untracked && f->key.protocol == IPPROTO_TCP && f->is_ip && !f->fragment &&
		   (f->tcp_flags & (TCP_SYN | TCP_ACK)) == (TCP_SYN | TCP_ACK)) {
		/* The second step of a handshake whose first was never seen. */
		return deny(d, REASON_TCP_STATE);
	}
	if (!f->is_ip || d->untracked)
		return 0;
	return begin_flow(f, d);
}

static __always_inline int up_to_date(struct frame *f, struct decision *d, struct flow *w)
{
	__u64 limit = f->key.protocol == IPPROTO_TCP ? HARD_TCP : HARD_OTHER;

	if (w->treatment & FLOW_WHOLE && !f->key.fragment)
		limit = HARD_WHOLE;
	return w->generation == d->generation && !longer_ago(f, w->decided, limit);
}

/* An ICMP error belongs to the conversation that it quotes, if that goes through here between
 * the same two MAC addresses. Sender and receiver were guarded before. */
static __always_inline int error_of_live_flow(struct frame *f, struct decision *d)
{
	struct flow *w = bpf_map_lookup_elem(&flows, &f->about);

	if (!w || w->generation != d->generation || longer_ago(f, w->seen, idle_limit(f->about.protocol, w)))
		return 0;
	allow_untracked(d);
	d->conduit = w->conduit;
	d->observed |= w->treatment & FLOW_OBSERVED;
	d->limited = (w->treatment & FLOW_LIMITED) != 0;
	return 1;
}

/* The verdict for one frame. */
static __always_inline void decide(struct frame *f, struct decision *d, struct control_block *control,
				   struct policy_defaults *defaults)
{
	struct flow *w = live_flow(f);

	if (w && !is_opening_syn(f) && up_to_date(f, d, w)) {
		answer_from_flow(f, d, w);
		return;
	}
	if (resolve(f, d, defaults)) {
		if (w && d->action == ACTION_DENY)
			end_flow(f, w);
		return;
	}
	if (f->icmp_error && error_of_live_flow(f, d))
		return;
	if (is_opening_syn(f))
		decide_syn(f, d, w);
	else if (w)
		decide_known(f, d, w);
	else
		decide_new(f, d, control);
}

#endif
