//go:build ignore
// SPDX-License-Identifier: (GPL-2.0-only OR BSD-3-Clause)
/* Entry programs. One for each port, so that the side is known without a look-up; the tcx
 * marker that carries a decision from XDP to the bridge; the exit gate. */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

#include "maps.h"
#include "lib/event.h"
#include "lib/known.h"
#include "lib/share.h"
#include "lib/tap.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* Named here so that the object's type information holds them whole: clang would leave types
 * that only inner maps and pointers use as forward declarations. */
#define KEEP_TYPE(kind, name) const kind name *keep_##name __attribute__((unused))
KEEP_TYPE(enum, penstock_reason);
KEEP_TYPE(enum, penstock_action);
KEEP_TYPE(struct, event);
KEEP_TYPE(struct, tap_header);
KEEP_TYPE(struct, mac_key);
KEEP_TYPE(struct, address_key);
KEEP_TYPE(struct, identity);
KEEP_TYPE(struct, pair_key);
KEEP_TYPE(struct, pair);
KEEP_TYPE(struct, range);
KEEP_TYPE(struct, conduit);
KEEP_TYPE(struct, limit);
KEEP_TYPE(struct, bucket);
KEEP_TYPE(struct, control_counter);
KEEP_TYPE(struct, tally);
KEEP_TYPE(struct, flow_choice);
KEEP_TYPE(struct, carried);

static __always_inline int forward_from(__u8 side)
{
	return bpf_redirect_map(&ports, 3 - side, XDP_DROP);
}

static __always_inline int forward(struct frame *f)
{
	return forward_from(f->side);
}

static __always_inline struct conduit_counter *conduit_counter(struct decision *d)
{
	return counter_of(d->index, d->conduit);
}

static __always_inline int refuse(struct frame *f, struct decision *d)
{
	struct conduit_counter *counter = conduit_counter(d);

	if (counter)
		counter->denied++;
	tell(f, d);
	return d->observed ? forward(f) : XDP_DROP;
}

/* Hands the frame to the bridge with its mark in front. */
int __noinline pass_marked(struct xdp_md *ctx, __u32 mark)
{
	__u32 magic = METADATA_MAGIC;
	struct front *front;

	if (bpf_xdp_adjust_meta(ctx, -(int)sizeof(*front)))
		return XDP_DROP;
	front = (void *)(long)ctx->data_meta;
	if ((void *)(front + 1) > (void *)(long)ctx->data)
		return XDP_DROP;
	barrier_var(magic); /* one number for both, which are aligned differently */
	front->metadata.magic = magic;
	front->metadata.mark = mark;
	front->again.magic = magic;
	front->again.mark = mark;
	return XDP_PASS;
}

/* Whether the verdict loop of the queue that the frame would wait in is alive. One that never
 * showed itself is not, also while the machine has run for less than the time-out. */
static __always_inline int inspecting(struct control_block *control, struct queue_state *queue)
{
	/* Signed: another CPU may have read the clock later than this one, and a heartbeat that was
	 * withdrawn soon after boot lies before the clock's beginning. */
	__s64 age = bpf_ktime_get_ns() - queue->beat;

	return queue->beat && age <= (__s64)control->heartbeat_timeout;
}

static __always_inline int opens_in_outage(struct decision *d)
{
	struct conduit *c = conduit(d->index, d->conduit);

	return c && c->opens;
}

#define PRP_TRAILER 6
#define PRP_SUFFIX  0x88fb

/* A redundancy control trailer (IEC 62439-3 4.2.7): the kernel's bridge hook would cut it off,
 * and the device's two networks would no longer recognise the frame as one. */
static __always_inline int has_prp_trailer(struct xdp_md *ctx, struct frame *f)
{
	__be16 suffix;

	if (f->trailer < PRP_TRAILER || bpf_xdp_load_bytes(ctx, f->length - sizeof(suffix), &suffix, sizeof(suffix)))
		return 0;
	return suffix == bpf_htons(PRP_SUFFIX);
}

int __noinline inspect_frame(struct xdp_md *ctx, struct frame *f, struct decision *d,
			     struct control_block *control)
{
	struct conduit_counter *counter;
	struct queue_state *queue;
	struct flow *w;
	__u32 number;
	__u8 opens;
	int answer;

	if (!f || !d || !control)
		return XDP_DROP;
	if (has_prp_trailer(ctx, f)) {
		deny(d, REASON_ENCAPSULATION);
		return refuse(f, d);
	}
	counter = conduit_counter(d);
	opens = opens_in_outage(d);
	if (d->observed) {
		if (counter)
			counter->allowed++;
		tap_frame(ctx, f, d->slot & MARK_KEY_MASK);
		return forward(f);
	}
	w = f->place.version ? entry(f->place.at) : NULL;
	number = queue_of(control, d->slot, opens);
	queue = bpf_map_lookup_elem(&queues, &number);
	if (!queue)
		return XDP_DROP;
	if (!inspecting(control, queue)) {
		if (!opens) {
			deny(d, REASON_OUTAGE_CLOSED);
			return refuse(f, d);
		}
		if (w) {
			w->state |= FLOW_PASSED;
			note_closing(f, w);
		}
		if (counter)
			counter->uninspected++;
		d->reason = REASON_OUTAGE_OPEN;
		tell(f, d);
		return forward(f);
	}
	if (w && (w->state & FLOW_PASSED))
		resume_flow(f, d);
	if (!within_share(control, queue, number, d)) {
		deny(d, REASON_QUEUE_FULL);
		return refuse(f, d);
	}
	answer = pass_marked(ctx, MARK_INSPECT | (f->side == SIDE_B ? MARK_SIDE_B : 0) |
					  (opens ? MARK_QUEUE_OPENS : 0) | (d->slot & MARK_KEY_MASK));
	if (answer != XDP_PASS) { /* a driver that has no room for metadata */
		deny(d, REASON_UNINSPECTABLE);
		return refuse(f, d);
	}
	if (counter)
		counter->inspected++;
	return answer;
}

/* Whether all verdict loops of conduits that open are alive. Which of them would have read what opened
 * an I/O connection does not show in its frames. */
static __always_inline int all_inspecting(struct control_block *control)
{
	for (__u32 lane = 0; lane < MAX_LANES; lane++) {
		__u32 number = queue_of(control, lane, 1);
		struct queue_state *queue = bpf_map_lookup_elem(&queues, &number);

		if (!queue || !inspecting(control, queue))
			return 0;
	}
	return 1;
}

/* I/O of a connection whose Forward Open went by unread: on a conduit that opens it passes in an
 * outage, and where the conduit lets connections live on for a while after one, or after a bypass, in
 * which user space adopts it. */
static __always_inline int passes_unopened(struct xdp_md *ctx, struct frame *f, struct decision *d,
					   struct control_block *control)
{
	int outage;

	if (d->reason != REASON_IO_NOT_OPEN || !d->opens)
		return 0;
	outage = !all_inspecting(control);
	if (!outage && (!d->io_joins || bpf_ktime_get_coarse_ns() >= control->io_adopt_until))
		return 0;
	return note_io(ctx, f, d) == 0 || outage;
}

int __noinline pass_unopened(struct xdp_md *ctx, struct frame *f, struct decision *d,
			     struct control_block *control)
{
	struct conduit_counter *counter;

	if (!f || !d || !control || !passes_unopened(ctx, f, d, control))
		return 0;
	if (d->limited && !within_conduit_limit(f, d)) {
		deny(d, REASON_RATE_EXCEEDED);
		return 0;
	}
	counter = conduit_counter(d);
	if (counter)
		counter->uninspected++;
	d->action = ACTION_ALLOW;
	d->reason = REASON_OUTAGE_OPEN;
	tell(f, d);
	return 1;
}

static __always_inline int apply(struct xdp_md *ctx, struct frame *f, struct decision *d,
				 struct control_block *control)
{
	struct conduit_counter *counter;

	if (d->limited && d->action != ACTION_DENY && !within_conduit_limit(f, d))
		deny(d, REASON_RATE_EXCEEDED);
	switch (d->action) {
	case ACTION_ALLOW:
		counter = conduit_counter(d);
		if (counter)
			counter->allowed++;
		if (d->announce)
			tell(f, d);
		return forward(f);
	case ACTION_INSPECT:
		if (d->announce)
			tell(f, d);
		return inspect_frame(ctx, f, d, control);
	}
	if (d->silent)
		return d->observed ? forward(f) : XDP_DROP;
	if (d->reason == REASON_IO_NOT_OPEN && pass_unopened(ctx, f, d, control))
		return forward(f);
	return refuse(f, d);
}

/* Link-local control traffic. It belongs to no conduit, and is counted by itself. */
int __noinline link_control(struct frame *f, struct decision *d, struct policy_defaults *policy)
{
	struct control_counter *counter;
	__u32 side;

	if (!f || !d || !policy)
		return XDP_DROP;
	if (policy->link_local != ACTION_ALLOW || !is_link_control(f)) {
		deny(d, REASON_LINK_LOCAL);
		return refuse(f, d);
	}
	if (policy->storm_limited && !within_control_limit(f, policy)) {
		deny(d, REASON_RATE_EXCEEDED);
		return refuse(f, d);
	}
	side = f->side;
	counter = bpf_map_lookup_elem(&control_counters, &side);
	if (counter) {
		counter->frames++;
		counter->bytes += f->length;
	}
	return forward(f);
}

/* A frame that goes on in further buffers fills its first one at least so far, or is an IP packet
 * that is longer than what its first buffer shows. */
#define ONE_BUFFER_MAX 1500

static __always_inline __u32 frame_length(struct xdp_md *ctx)
{
	__u32 length = (void *)(long)ctx->data_end - (void *)(long)ctx->data;

	return length < ONE_BUFFER_MAX ? length : bpf_xdp_get_buff_len(ctx);
}

/* The way of each frame that is not of a known and allowed conversation. */
static __always_inline int decide_frame(struct xdp_md *ctx, struct frame *f, __u8 side, __u32 length,
					 struct control_block *state)
{
	struct decision d = {};
	struct policy_defaults *policy;

	__builtin_memset(f, 0, sizeof(*f));
	f->side = side;
	f->length = length <= FRAME_MAX ? length : FRAME_MAX;
	f->now = bpf_jiffies64() * state->tick;
	d.generation = *(volatile __u32 *)&state->generation;
	d.index = d.generation & 1;
	policy = bpf_map_lookup_elem(&defaults, &d.index);
	if (!policy)
		return XDP_DROP;
	if (!d.generation || policy->generation != d.generation) {
		deny(&d, REASON_NO_CONDUIT);
		parse_frame(ctx, f);
		return refuse(f, &d);
	}
	d.observed = !policy->enforce;
	d.arp_guard = policy->arp_guard;
	d.intra_zone = policy->intra_zone;
	if (length > FRAME_MAX || parse_frame(ctx, f) < 0) {
		deny(&d, REASON_MALFORMED);
		return refuse(f, &d);
	}
	f->side = side; /* which the compiler forgets wherever the frame was lent */
	if (is_link_local(destination_mac(f)))
		return link_control(f, &d, policy);
	if (policy->storm_limited && !within_storm_limit(f, policy)) {
		deny(&d, REASON_RATE_EXCEEDED);
		return refuse(f, &d);
	}
	if (!is_io(f) || !decide_io(ctx, f, &d)) {
		f->side = side;
		decide(f, &d, state, policy);
	}
	return apply(ctx, f, &d, state);
}

static __always_inline int port(struct xdp_md *ctx, __u8 side)
{
	__u32 zero = 0, length = frame_length(ctx);
	struct control_block *state;
	struct frame f;

	state = bpf_map_lookup_elem(&control, &zero);
	if (!state)
		return XDP_DROP;
	if (passes_plainly(ctx, side, length, state, &f.place))
		return forward_from(side);
	return decide_frame(ctx, &f, side, length, state);
}

SEC("xdp.frags")
int port_a(struct xdp_md *ctx)
{
	return port(ctx, SIDE_A);
}

SEC("xdp.frags")
int port_b(struct xdp_md *ctx)
{
	return port(ctx, SIDE_B);
}

#define TRIAL_MARK_OFFSET 42 /* behind Ethernet, IPv4 without options and UDP */

/* Stands at the way in of a self-test (internal/bridge, Trial), and at no port of the line: hands
 * frames on as if they waited for a verdict, to the queue that they name themselves. One that
 * names none goes on without metadata, as a frame that nobody decided. */
SEC("xdp.frags")
int trial(struct xdp_md *ctx)
{
	__be32 wanted;
	__u32 mark;

	if (bpf_xdp_load_bytes(ctx, TRIAL_MARK_OFFSET, &wanted, sizeof(wanted)))
		return XDP_DROP;
	mark = bpf_ntohl(wanted);
	if (!mark)
		return XDP_PASS;
	return pass_marked(ctx, MARK_INSPECT | (mark & MARK_KEY_MASK) | (mark & MARK_QUEUE_OPENS));
}

/* Reads one moment in both clocks, for user space, which cannot read the kernel's ticks. */
SEC("xdp")
int clock(struct xdp_md *ctx)
{
	struct control_block *state;
	__u32 zero = 0;

	state = bpf_map_lookup_elem(&control, &zero);
	if (!state)
		return XDP_DROP;
	state->clock_ticks = bpf_jiffies64();
	state->clock_ns = bpf_ktime_get_ns();
	return XDP_PASS;
}

static __always_inline int carry_numbers(__u64 *to, __u64 *numbers, int n)
{
	if (!to)
		return XDP_DROP;
	for (int i = 0; i < n; i++)
		__sync_fetch_and_add(&to[i], numbers[i]);
	return XDP_PASS;
}

/* A direction goes on from the sequence that it had come to. Where its first frame was sooner, what had come
 * meanwhile counts as lost, and has not been. */
static __always_inline int carry_io(struct carried *c)
{
	struct io_state *state = bpf_map_lookup_elem(&io_states, &c->index);
	__u64 began = c->numbers[0], came = c->numbers[1];

	if (!state)
		return XDP_DROP;
	if (__sync_val_compare_and_swap(&state->sequence, began, came) != began && (began & IO_STARTED))
		__sync_fetch_and_sub(&state->lost, (__u32)came - (__u32)began);
	return carry_numbers(&state->frames, c->numbers + 2, 5);
}

/* Adds numbers to counters for user space, see struct carried, while the entry programs count on. Each
 * addition is one instruction, and on the CPU whose counter it is: nothing that is counted there meanwhile
 * is lost, as it would be if user space wrote a sum. */
SEC("xdp")
int carry(struct xdp_md *ctx)
{
	struct carried c;

	if (bpf_xdp_load_bytes(ctx, CARRY_OFFSET, &c, sizeof(c)))
		return XDP_DROP;
	switch (c.what) {
	case CARRY_REASON:
		return carry_numbers(bpf_map_lookup_elem(&reasons, &c.index), c.numbers, 3);
	case CARRY_LINK_CONTROL:
		return carry_numbers(bpf_map_lookup_elem(&control_counters, &c.index), c.numbers, 2);
	case CARRY_COPIES:
		return carry_numbers(bpf_map_lookup_elem(&tap_counters, &c.index), c.numbers, 2);
	case CARRY_IO:
		return carry_io(&c);
	}
	return XDP_DROP;
}

/* Removes flows for user space: a packet that no wire has seen names them, behind room for an
 * Ethernet header and the word whether they have to be idle. Returns how many it removed. */
SEC("tc")
int expire(struct __sk_buff *skb)
{
	struct control_block *state;
	__u32 zero = 0;
	__u16 busy = 0;
	int expired = 0;

	state = bpf_map_lookup_elem(&control, &zero);
	if (!state || bpf_skb_load_bytes(skb, CHOICES_BUSY, &busy, sizeof(busy)))
		return 0;
	for (__u32 i = 0; i < CHOICES; i++) {
		struct flow_choice c;

		if (bpf_skb_load_bytes(skb, CHOICES_OFFSET + i * sizeof(c), &c, sizeof(c)))
			break;
		expired += expire_flow(&c, state, bpf_jiffies64() * state->tick, busy != 0);
	}
	return expired;
}

static __always_inline struct reason_counter *count_reason(__u32 reason, struct __sk_buff *skb, __u32 frames)
{
	struct reason_counter *counter = bpf_map_lookup_elem(&reasons, &reason);

	if (counter) {
		counter->frames += frames;
		counter->bytes += skb->len;
	}
	return counter;
}

/* Drops what nobody decided on, and has user space look what is missing: an event that holds the reason
 * and the time alone. */
static __always_inline int stop_undecided(struct __sk_buff *skb)
{
	struct reason_counter *counter = count_reason(REASON_NO_VERDICT, skb, 1);
	__u64 now = bpf_ktime_get_coarse_ns();
	struct event *e;

	if (!counter)
		return TC_ACT_SHOT;
	e = may_tell(counter, now) ? bpf_ringbuf_reserve(&events, sizeof(*e), 0) : NULL;
	if (!e) {
		counter->events_lost++;
		return TC_ACT_SHOT;
	}
	__builtin_memset(e, 0, sizeof(*e));
	e->time = now;
	e->action = ACTION_DENY;
	e->reason = REASON_NO_VERDICT;
	bpf_ringbuf_submit(e, 0);
	return TC_ACT_SHOT;
}

/* The mark of an incoming frame is what XDP said of it, or nothing. A frame without metadata
 * was decided by nobody: it came while no program stood at the port, or past it. With less than all of it,
 * what is read could be of the frame itself, see struct front. */
SEC("tc")
int marker(struct __sk_buff *skb)
{
	struct front *front = (void *)(long)skb->data_meta;

	skb->mark = 0;
	if ((void *)(front + 1) > (void *)(long)skb->data || front->metadata.magic != METADATA_MAGIC)
		return stop_undecided(skb);
	skb->mark = front->metadata.mark;
	return TC_ACT_OK;
}

/* The flow that a mark names, NULL if that has ended or goes on under another slot. */
static __always_inline struct flow *flow_of_mark(__u32 mark)
{
	__u32 key = mark & MARK_KEY_MASK, number = mark & MARK_SLOT_MASK, at;
	struct slot *s = bpf_map_lookup_elem(&slots, &number);
	struct flow_record *r;

	if (!s || s->slot != key)
		return NULL;
	at = s->at;
	r = record(at);
	return r && r->slot == key ? entry(at) : NULL;
}

/* Whether a packet without a verdict is one that waited when the verdict loop of its conduit, which
 * opens, fell silent, and that the stand-in has let go. XDP says the same of the frames that come after
 * it, by the same heartbeat, and counts them alike. */
static __always_inline int passes_in_outage(struct __sk_buff *skb)
{
	__u32 mark = skb->mark, zero = 0, number, frames = skb->gso_segs;
	struct conduit_counter *counter;
	struct reason_counter *told;
	struct control_block *state;
	struct queue_state *queue;
	struct flow *w;

	if ((mark & (MARK_KIND_MASK | MARK_QUEUE_OPENS)) != (MARK_INSPECT | MARK_QUEUE_OPENS))
		return 0;
	state = bpf_map_lookup_elem(&control, &zero);
	if (!state)
		return 0;
	number = queue_of(state, mark, 1);
	queue = bpf_map_lookup_elem(&queues, &number);
	if (!queue || inspecting(state, queue))
		return 0;
	if (!frames)
		frames = 1;
	told = count_reason(REASON_OUTAGE_OPEN, skb, frames);
	if (told)
		told->events_lost += frames; /* only XDP tells of this */
	w = flow_of_mark(mark);
	if (!w)
		return 1;
	w->state |= FLOW_PASSED;
	counter = counter_of(w->generation & 1, w->conduit);
	if (counter)
		counter->uninspected += frames;
	return 1;
}

/* Notes what inspection says that a conversation has come to with a frame that leaves. The verdicts of a flow come in
 * the order of its frames, so that a SYN's takes back what XDP had forgotten with the frame, and the verdict of an
 * RST before it has noted since. */
static __always_inline void note_verdict(__u32 mark)
{
	struct flow *w = mark & MARK_TCP_MASK ? flow_of_mark(mark) : NULL;

	if (!w)
		return;
	switch (mark & MARK_TCP_MASK) {
	case MARK_OPENS:
		w->state &= ~FLOW_CLOSING;
		return;
	case MARK_CLOSED:
		w->state |= FLOW_FIN_A | FLOW_FIN_B;
		return;
	}
	w->state |= FLOW_RST;
}

/* Nothing leaves a port through the kernel's stack without a verdict: not with a flushed
 * ruleset, not past a hook that did not see it, not from the host. */
SEC("tc")
int exit_gate(struct __sk_buff *skb)
{
	__u32 kind = skb->mark & MARK_KIND_MASK;

	if (kind == MARK_PERMITTED)
		note_verdict(skb->mark);
	if (kind == MARK_PERMITTED || kind == MARK_OWN || passes_in_outage(skb))
		return TC_ACT_OK;
	return stop_undecided(skb);
}
