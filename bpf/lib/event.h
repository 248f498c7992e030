/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-3-Clause) */
/* What the fast path tells. Every decision is counted; telling is limited for each reason, and
 * what is not told is counted too. */
#ifndef PENSTOCK_EVENT_H
#define PENSTOCK_EVENT_H

#include "decision.h"

#define SECOND_NS 1000000000ull

static __always_inline int may_tell(struct reason_counter *counter, __u64 now)
{
	if (now - counter->window >= SECOND_NS) {
		counter->window = now;
		counter->told = 0;
	}
	return counter->told++ < EVENTS_PER_SECOND;
}

int __noinline tell(struct frame *f, struct decision *d)
{
	__u32 reason;
	__u64 now = bpf_ktime_get_coarse_ns();
	struct reason_counter *counter;
	struct event *e;

	if (!f || !d)
		return 0;
	reason = d->reason;
	if (reason >= REASON_COUNT)
		return 0;
	counter = bpf_map_lookup_elem(&reasons, &reason);
	if (!counter)
		return 0;
	counter->frames++;
	counter->bytes += f->length;
	if (!may_tell(counter, now)) {
		counter->events_lost++;
		return 0;
	}
	e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);
	if (!e) {
		counter->events_lost++;
		return 0;
	}
	e->time = now;
	e->generation = d->generation;
	e->conduit = d->conduit;
	e->source = d->source;
	e->destination = d->destination;
	e->action = d->action;
	e->reason = reason;
	e->side = f->side;
	e->observed = d->observed;
	__builtin_memcpy(e->source_mac, source_mac(f), 6);
	__builtin_memcpy(e->destination_mac, destination_mac(f), 6);
	e->tags[0] = f->key.tags[0];
	e->tags[1] = f->key.tags[1];
	e->ethertype = f->ethertype;
	e->length = f->length;
	__builtin_memcpy(e->source_ip, source_ip(f), 16);
	__builtin_memcpy(e->destination_ip, destination_ip(f), 16);
	e->source_port = source_port(f);
	e->destination_port = destination_port(f);
	e->protocol = f->key.protocol;
	e->is_ip = f->is_ip | f->is_arp;
	e->icmp_type = f->icmp_type;
	e->tcp_flags = f->tcp_flags;
	bpf_ringbuf_submit(e, 0);
	return 0;
}

#endif
