/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-3-Clause) */
/* Live conversations. A flow's entry answers for its frames in one look-up, in both directions;
 * identity and conduit are asked when there is none, when the policy changed, or for a SYN,
 * which always has to be permitted in its own direction. */
#ifndef PENSTOCK_FLOW_H
#define PENSTOCK_FLOW_H

#include "decide.h"
#include "limit.h"
#include "table.h"

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

/* Two CPUs may read the clock a tick apart, and a frame may be held up between reading it and
 * looking: then can be the later moment. That is no time, not half an eternity. */
#define AHEAD 64

/* Whether more than limit, in ns, lies between an entry's seen and now. */
static __always_inline int longer_ago(__u64 now, __u32 seen, __u64 limit)
{
	return (__u32)((__u32)(now >> SEEN_SHIFT) - seen + AHEAD) > (limit >> SEEN_SHIFT) + AHEAD;
}

/* The same for decided, which two seconds make one of. */
static __always_inline int decided_longer_ago(__u64 now, __u16 decided, __u64 limit)
{
	return (__u16)((__u16)(now >> DECIDED_SHIFT) - decided + AHEAD) > (limit >> DECIDED_SHIFT) + AHEAD;
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
static __always_inline int icmp_belongs(struct frame *f)
{
	int forward = f->initiator == f->side;

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

static __always_inline __u8 initiator_of(struct flow *w)
{
	return w->treatment & FLOW_BY_B ? SIDE_B : SIDE_A;
}

/* What is known of the frame's flow, in one piece. */
static __always_inline struct flow *look_at_flow(struct frame *f, int *changed)
{
	struct flow *w = find_flow(&f->place);
	int idle;

	*changed = 0;
	if (!w)
		return NULL;
	f->initiator = initiator_of(w);
	idle = longer_ago(f->now, load_once(w->seen), idle_limit(f->key.protocol, w));
	*changed = !still_there(w, &f->place);
	return idle || *changed || !icmp_belongs(f) ? NULL : w;
}

#define LOOKS 4

/* Another look. Returns whether one more is needed. */
int __noinline look_once_more(struct frame *f)
{
	int changed = 0;

	if (f && !look_at_flow(f, &changed))
		f->place.version = changed ? f->place.version : 0;
	return changed;
}

/* Another CPU renewed the flow, or ended it, while this one looked. A reply must not be taken for a
 * stranger's frame for that. */
static __always_inline struct flow *look_again(struct frame *f)
{
	for (int i = 0; i < LOOKS; i++)
		if (!look_once_more(f))
			return f->place.version ? entry(f->place.at) : NULL;
	return NULL;
}

static __always_inline struct flow *live_flow(struct frame *f, struct control_block *state)
{
	struct flow *w;
	int changed;

	/* Flows lead to groups, never back from one: a group is no sender (IEEE 802.3 3.2.3). */
	if (is_multicast_mac(source_mac(f)))
		return NULL;
	if (!f->is_ip || f->deep_tags || f->source_routed)
		return NULL;
	place_key(&f->place, &f->key, state);
	w = look_at_flow(f, &changed);
	if (changed)
		return look_again(f);
	return w;
}

/* Whether the flow was decided by the policy in force, and not too long ago. */
static __always_inline int up_to_date(struct flow *w, __u8 protocol, __u64 now, __u32 generation)
{
	__u64 limit = protocol == IPPROTO_TCP ? HARD_TCP : HARD_OTHER;

	if (w->treatment & FLOW_WHOLE)
		limit = HARD_WHOLE;
	return w->generation == (__u16)generation && !decided_longer_ago(now, w->decided, limit);
}

/* Moves a direction's sum to the record, before it overflows. Another CPU that is adding a frame of the same
 * direction at this moment may have read the sum before and write it afterwards: what has moved then moves
 * once more. */
int __noinline move_sum(__u32 at, __u8 direction)
{
	struct flow_record *r = record(at);
	struct flow *w = entry(at);
	__u32 sum;

	if (!w || !r || direction > 1)
		return 0;
	__sync_fetch_and_add(&r->moves[direction], 1);
	sum = __sync_lock_test_and_set(&w->sum[direction], 0);
	r->direction[direction].frames += sum & SUM_FRAMES_MASK;
	r->direction[direction].bytes += sum >> SUM_BYTES_SHIFT;
	__sync_fetch_and_add(&r->moves[direction], 1);
	return 0;
}

/* Counts a frame to the flow in an entry, and keeps it alive. */
static __always_inline void count_to_flow(struct flow *w, __u32 at, __u8 side, __u32 length, __u64 now)
{
	__u32 *sum = &w->sum[side == SIDE_B];

	*sum += 1 + (length << SUM_BYTES_SHIFT);
	if (*sum & SUM_FULL)
		move_sum(at, side == SIDE_B);
	w->seen = now >> SEEN_SHIFT;
	if (side != initiator_of(w) && !(w->state & FLOW_ANSWERED))
		w->state |= FLOW_ANSWERED;
}

/* Notes what a frame closes of its conversation. */
static __always_inline void note_closing(struct frame *f, struct flow *w)
{
	if (f->key.protocol != IPPROTO_TCP || !(f->tcp_flags & (TCP_FIN | TCP_RST)))
		return;
	if (f->tcp_flags & TCP_RST)
		w->state |= FLOW_RST;
	if (f->tcp_flags & TCP_FIN)
		w->state |= f->side == SIDE_A ? FLOW_FIN_A : FLOW_FIN_B;
}

/* A frame that waits for a verdict closes nothing before it leaves: anybody can send a RST with a wrong
 * number, which its receiver ignores and inspection denies. See note_verdict of bridge.bpf.c. */
static __always_inline void count_frame(struct frame *f, struct flow *w)
{
	count_to_flow(w, f->place.at, f->side, f->length, f->now);
	if ((w->treatment & (FLOW_INSPECT | FLOW_OBSERVED)) != FLOW_INSPECT)
		note_closing(f, w);
}

/* Takes a free slot for an inspected flow. 0 is no slot: user space never hands out the slot with
 * number 0. */
static __always_inline __u32 take_slot(void)
{
	__u32 slot;

	return bpf_map_pop_elem(&free_slots, &slot) ? 0 : slot;
}

/* Writes down whose a slot is. */
static __always_inline void own_slot(__u32 slot, __u32 at)
{
	__u32 number = slot & MARK_SLOT_MASK;
	struct slot *s = bpf_map_lookup_elem(&slots, &number);

	if (!s)
		return;
	s->at = at;
	__sync_lock_test_and_set(&s->slot, slot);
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

/* Gives back a slot that no flow was given. */
static __always_inline void give_back(__u32 slot)
{
	if (slot)
		bpf_map_push_elem(&free_slots, &slot, 0);
}

/* The same flow under a new slot generation: the slow path begins its stream anew. For what
 * it did not see, in an outage. With the lock held. */
static __always_inline void bump_slot(struct flow_record *r)
{
	__u32 next = r->slot ? retire_slot(r->slot) : 0;

	if (next)
		r->slot = next;
}

static __always_inline __u8 treatment_of(struct frame *f, struct decision *d)
{
	__u8 first = d->reverse ? 3 - f->side : f->side;

	return (d->observed ? FLOW_OBSERVED : 0) | (d->opens ? FLOW_OPENS : 0) | (d->limited ? FLOW_LIMITED : 0) |
	       (d->action == ACTION_INSPECT ? FLOW_INSPECT : 0) | (first == SIDE_B ? FLOW_BY_B : 0) |
	       (d->whole && d->action == ACTION_ALLOW && !f->fragment ? FLOW_WHOLE : 0);
}

/* By whom a flow is judged: by nobody, by nobody in time, or by one of the two verdict loops. */
#define JUDGED_BY (FLOW_INSPECT | FLOW_OBSERVED | FLOW_OPENS)

/* Whose a flow is that begins. */
static __always_inline void own_flow(struct flow_record *r, struct decision *d)
{
	r->source = d->reverse ? d->destination : d->source;
	r->destination = d->reverse ? d->source : d->destination;
	r->owner = d->owner;
}

/* Writes the verdict into an open entry. Identities may have other numbers than before. */
static __always_inline void adopt_decision(struct flow *w, struct flow_record *r, struct frame *f, struct decision *d)
{
	__u8 of_source = r->owner == r->source;

	w->decided = f->now >> DECIDED_SHIFT;
	w->conduit = d->conduit;
	w->treatment = (w->treatment & ~FLOW_DECIDED) | treatment_of(f, d);
	w->generation = d->generation;
	r->generation = d->generation;
	r->source = d->reverse ? d->destination : d->source;
	r->destination = d->reverse ? d->source : d->destination;
	r->owner = of_source ? r->source : r->destination;
}

static __always_inline void discount(__u32 identity)
{
	__u32 *count = bpf_map_lookup_elem(&flow_counts, &identity);

	if (count && *count)
		__sync_fetch_and_add(count, -1);
}

/* With the lock held: takes a flow out of the table. */
static __always_inline void remove_flow(struct flow *w, struct flow_record *r, struct place *p)
{
	__u32 owner = r->owner, slot = r->slot;

	free_entry(w, p);
	discount(owner);
	if (slot)
		slot = retire_slot(slot);
	if (slot)
		bpf_map_push_elem(&free_slots, &slot, 0);
}

/* Ends the conversation that was found: what the policy no longer permits, or what has been over
 * for long. Two CPUs, or one and user space, may be at it at once: one of them finds it. */
int __noinline end_flow(struct frame *f)
{
	struct flow_record *r;
	struct flow *w;

	if (!f)
		return 0;
	w = entry(f->place.at);
	r = record(f->place.at);
	if (!w || !r || !f->place.version || lock_home(&f->place))
		return 0;
	if (unchanged(w, &f->place))
		remove_flow(w, r, &f->place);
	unlock_home(&f->place);
	return 0;
}

/* Removes a flow for user space, if it is the one that was chosen, and idle or may be busy. */
int __noinline expire_flow(struct flow_choice *c, struct control_block *state, __u64 now, __u8 busy)
{
	struct flow_record *r;
	struct place p = {};
	struct flow *w;
	int expired = 0;

	if (!c || !state)
		return 0;
	w = entry(c->at);
	r = record(c->at);
	if (!w || !r)
		return 0;
	place_key(&p, &r->key, state);
	p.at = c->at;
	p.version = c->version;
	if (lock_home(&p))
		return 0;
	/* Where the entry has changed since its key was read, so has its version, and it does not
	 * matter that the lock is another one. */
	if (unchanged(w, &p) && (c->version & ENTRY_STATE) == ENTRY_LIVE &&
	    (busy || longer_ago(now, w->seen, idle_limit(r->key.protocol, w)))) {
		remove_flow(w, r, &p);
		expired = 1;
	}
	unlock_home(&p);
	return expired;
}

/* Counts a flow to the identity that begins it. Fails when it has as many as one may have. */
static __always_inline int count_to(__u32 identity, struct control_block *state)
{
	__u32 *count = bpf_map_lookup_elem(&flow_counts, &identity);

	if (!count || *count >= state->flow_quota)
		return -1;
	__sync_fetch_and_add(count, 1);
	return 0;
}

/* Begins the record of an entry that is open. */
int __noinline begin_record(struct frame *f)
{
	struct flow_record *r;
	struct flow *w;

	if (!f)
		return 0;
	w = entry(f->place.at);
	r = record(f->place.at);
	if (!w || !r)
		return 0;
	__builtin_memset(r, 0, sizeof(*r));
	r->key = f->key;
	r->created = bpf_ktime_get_coarse_ns();
	w->state = 0;
	w->sum[0] = 0;
	w->sum[1] = 0;
	return 0;
}

/* A second entry, without ports, by which the fragments of an address-only conversation are
 * known, those of the answers too; renewed with the first. It may fail: then they are denied as
 * fragments. Leaves f->place at it: nothing more is asked of the first one. */
static __always_inline void enter_fragments(struct frame *f, struct decision *d, struct control_block *state)
{
	struct flow_record *r;
	struct flow *w;

	place_key(&f->place, &f->key, state);
	if (lock_home(&f->place))
		return;
	w = search_entry(&f->place);
	if (w) {
		open_entry(w);
	} else if (!count_to(d->owner, state)) {
		w = claim_entry(&f->place);
		if (!w)
			discount(d->owner);
	}
	r = record(f->place.at);
	if (w && r) {
		if (!f->place.version) {
			begin_record(f);
			own_flow(r, d);
		}
		adopt_decision(w, r, f, d);
		w->treatment &= ~FLOW_WHOLE;
		w->state = d->shown;
		w->seen = f->now >> SEEN_SHIFT;
		settle_entry(w, &f->place);
	}
	unlock_home(&f->place);
}

int __noinline begin_fragments(struct frame *f, struct decision *d, struct control_block *state)
{
	__be16 port_a, port_b;

	if (!f || !d || !state)
		return 0;
	port_a = f->key.port_a;
	port_b = f->key.port_b;
	f->key.port_a = 0;
	f->key.port_b = 0;
	f->key.fragment = 1;
	enter_fragments(f, d, state);
	f->key.port_a = port_a;
	f->key.port_b = port_b;
	f->key.fragment = 0;
	return 0;
}

/* Whether a connection in mid-stream may be one from before the start. Later it is one that was
 * forgotten, perhaps on purpose: the slow path ends it, and its client begins another. */
static __always_inline int adopting(struct control_block *state)
{
	return bpf_ktime_get_coarse_ns() < state->adopt_until;
}

/* Enters a flow that was counted, and has its slot if it needs one. Fails where there is no room, or
 * another CPU was faster: TCP comes again. */
static __always_inline int enter_flow(struct frame *f, struct decision *d, struct control_block *state, __u32 slot)
{
	struct flow_record *r;
	struct flow *w;

	place_key(&f->place, &f->key, state);
	if (lock_home(&f->place))
		return -1;
	w = search_entry(&f->place) ? NULL : claim_entry(&f->place);
	r = record(f->place.at);
	if (!w || !r) {
		unlock_home(&f->place);
		return -1;
	}
	begin_record(f);
	own_flow(r, d);
	adopt_decision(w, r, f, d);
	if (slot) {
		r->slot = slot;
		own_slot(slot, f->place.at);
	}
	if (f->key.protocol == IPPROTO_TCP && !(f->tcp_flags & TCP_SYN) && adopting(state))
		w->state = FLOW_ADOPTED;
	count_frame(f, w);
	d->fragmentable = w->treatment & FLOW_WHOLE;
	settle_entry(w, &f->place);
	unlock_home(&f->place);
	return 0;
}

/* Enters a permitted conversation. Fails as table_full, which an enforced conduit denies. */
int __noinline begin_flow(struct frame *f, struct decision *d, struct control_block *state)
{
	__u32 slot = 0;

	if (!f || !d || !state)
		return -1;
	end_flow(f); /* what was found of it, and had ended */
	/* Who sends, also against the conduit's direction: else whoever answers could use up the share of
	 * those that ask. */
	d->owner = d->source;
	if (count_to(d->owner, state))
		return deny(d, REASON_TABLE_FULL);
	if (d->action == ACTION_INSPECT) {
		slot = take_slot();
		if (!slot) {
			discount(d->owner);
			return deny(d, REASON_TABLE_FULL);
		}
	}
	if (enter_flow(f, d, state, slot)) {
		discount(d->owner);
		give_back(slot);
		return deny(d, REASON_TABLE_FULL);
	}
	d->slot = slot;
	d->announce = 1;
	return 0;
}

/* With the lock held, in an open entry. */
static __always_inline void rewrite_flow(struct flow *w, struct flow_record *r, struct frame *f, struct decision *d)
{
	/* What was not held until now, or by the other verdict loop, is met by the slow path in
	 * mid-stream, and what it may remember of the same key is from before. */
	if ((w->treatment ^ treatment_of(f, d)) & JUDGED_BY) {
		w->state |= FLOW_ADOPTED;
		bump_slot(r);
	}
	adopt_decision(w, r, f, d);
	if (is_opening_syn(f)) {
		d->announce = flow_closed(w);
		w->state = 0;
	}
	count_frame(f, w);
}

/* A conversation that is known but has to be asked for again: after a policy change, or
 * because a SYN begins it anew. The entry stays where it is, its slot with it. */
int __noinline renew_flow(struct frame *f, struct decision *d, struct control_block *state)
{
	struct flow_record *r;
	__u32 slot = 0, held;
	struct flow *w;

	if (!f || !d || !state)
		return -1;
	w = entry(f->place.at);
	r = record(f->place.at);
	if (!w || !r)
		return deny(d, REASON_TABLE_FULL);
	if (d->action == ACTION_INSPECT && !r->slot) {
		slot = take_slot();
		if (!slot)
			return deny(d, REASON_TABLE_FULL);
	}
	if (lock_home(&f->place)) {
		give_back(slot);
		return deny(d, REASON_TABLE_FULL);
	}
	/* Another CPU may have renewed it meanwhile, or ended it. */
	f->place.version = version_of(f->place.at, &f->place);
	if (!f->place.version) {
		unlock_home(&f->place);
		give_back(slot);
		return deny(d, REASON_TABLE_FULL);
	}
	open_entry(w);
	if (slot && !r->slot) {
		r->slot = slot;
		own_slot(slot, f->place.at);
		slot = 0;
	}
	rewrite_flow(w, r, f, d);
	held = r->slot;
	/* A flow that still has a slot from when it was inspected has no entry for its fragments. */
	d->fragmentable = w->treatment & FLOW_WHOLE && !held;
	d->shown = w->state;
	d->owner = r->owner;
	f->place.version = close_entry(w, ENTRY_LIVE);
	unlock_home(&f->place);
	give_back(slot);
	d->slot = held;
	return d->action == ACTION_INSPECT && !held ? deny(d, REASON_TABLE_FULL) : 0;
}

/* A flow that was let through uninspected begins anew for the slow path. */
int __noinline resume_flow(struct frame *f, struct decision *d)
{
	struct flow_record *r;
	struct flow *w;

	if (!f || !d)
		return 0;
	w = entry(f->place.at);
	r = record(f->place.at);
	if (!w || !r || lock_home(&f->place))
		return 0;
	if (version_of(f->place.at, &f->place) && (w->state & FLOW_PASSED)) {
		w->state = (w->state & ~FLOW_PASSED) | FLOW_ADOPTED;
		bump_slot(r);
		d->slot = r->slot;
	}
	unlock_home(&f->place);
	return 0;
}

/* Whether the flow answers for the frame, and does. What it says is taken only when it is certain
 * that all of it was the flow's. The record is asked where somebody will want to know. */
static __always_inline int answer_from_flow(struct frame *f, struct decision *d, struct flow *w)
{
	__u32 slot = 0, source = 0, destination = 0;
	__u16 conduit = w->conduit;
	__u8 treatment = w->treatment;

	if (treatment & (FLOW_INSPECT | FLOW_LIMITED)) {
		struct flow_record *r = record(f->place.at);

		if (!r)
			return 0;
		slot = load_once(r->slot);
		source = r->source;
		destination = r->destination;
	}
	if (!still_there(w, &f->place))
		return 0;
	d->action = treatment & FLOW_INSPECT ? ACTION_INSPECT : ACTION_ALLOW;
	d->reason = REASON_PERMITTED;
	d->conduit = conduit;
	d->observed |= treatment & FLOW_OBSERVED;
	d->limited = (treatment & FLOW_LIMITED) != 0;
	d->slot = slot;
	d->reverse = f->initiator != f->side;
	d->source = d->reverse ? destination : source;
	d->destination = d->reverse ? source : destination;
	count_frame(f, w);
	return 1;
}

static __always_inline int decide_syn(struct frame *f, struct decision *d, struct control_block *state, struct flow *w)
{
	int other_way = w && f->initiator != f->side && !flow_closed(w);
	__u8 observed = d->observed;

	if (permit_by_conduit(f, d, 0) < 0) {
		if (!other_way)
			return -1;
		/* By the policy in force, which need not be the one that the flow has its verdict of. */
		d->observed = observed;
		permit_by_conduit(f, d, 1);
		return deny(d, REASON_TCP_STATE);
	}
	if (d->untracked)
		return 0;
	if (other_way)
		return deny(d, REASON_TCP_STATE);
	return w ? renew_flow(f, d, state) : begin_flow(f, d, state);
}

static __always_inline int decide_known(struct frame *f, struct decision *d, struct control_block *state)
{
	if (permit_by_conduit(f, d, f->initiator != f->side) == 0 && !d->untracked)
		return renew_flow(f, d, state);
	end_flow(f);
	return d->untracked ? 0 : -1;
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
	return begin_flow(f, d, control);
}

/* An ICMP error belongs to the conversation that it quotes, if that goes through here between
 * the same two MAC addresses. Sender and receiver were guarded before. */
int __noinline error_of_live_flow(struct frame *f, struct decision *d, struct control_block *state)
{
	struct place p = {};
	struct flow *w;
	__u16 conduit;
	__u8 treatment;

	if (!f || !d || !state)
		return 0;
	place_key(&p, &f->about, state);
	w = find_flow(&p);
	if (!w || w->generation != (__u16)d->generation ||
	    longer_ago(f->now, w->seen, idle_limit(f->about.protocol, w)))
		return 0;
	conduit = w->conduit;
	treatment = w->treatment;
	if (!still_there(w, &p))
		return 0;
	allow_untracked(d);
	d->conduit = conduit;
	d->observed |= treatment & FLOW_OBSERVED;
	d->limited = (treatment & FLOW_LIMITED) != 0;
	return 1;
}

/* The verdict for one frame. */
static __always_inline void decide(struct frame *f, struct decision *d, struct control_block *control,
				   struct policy_defaults *defaults)
{
	struct flow *w = live_flow(f, control);

	if (w && !is_opening_syn(f) && up_to_date(w, f->key.protocol, f->now, d->generation) && answer_from_flow(f, d, w))
		return;
	if (resolve(f, d, defaults)) {
		if (w && d->action == ACTION_DENY)
			end_flow(f);
		return;
	}
	if (f->icmp_error && error_of_live_flow(f, d, control))
		return;
	if (is_opening_syn(f))
		decide_syn(f, d, control, w);
	else if (w)
		decide_known(f, d, control);
	else
		decide_new(f, d, control);
	if (d->fragmentable)
		begin_fragments(f, d, control);
}

#endif
