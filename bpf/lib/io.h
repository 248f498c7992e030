/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-3-Clause) */
/* Cyclic I/O of EtherNet/IP, CIP transport classes 0 and 1: datagrams to port 2222 in the common
 * packet format (CIP volume 2, 2-6 and 3-2.2). They pass on connections that user space has
 * opened, because it saw a permitted Forward Open succeed, and each is held to what was agreed
 * there: both ends, identifier, size, a sequence that goes on, and the watchdogs. */
#ifndef PENSTOCK_IO_H
#define PENSTOCK_IO_H

#include "decide.h"
#include "limit.h"
#include "table.h"

#define IO_SEQUENCED_ADDRESS 0x8002
#define IO_CONNECTED_DATA    0x00b1

/* How far a sequence number may be ahead of the last one. A connection is dead after 512 intervals
 * at most, and a producer that sends on every change is not that much faster: who leaps further
 * wants the true producer's frames to look old. */
#define IO_LEAP 65536

/* The two items of a cyclic frame, all in little-endian order: its address, then its data. */
struct io_frame {
	__u16 items;
	__u16 address_type;
	__u16 address_length;
	__u32 connection;
	__u32 sequence;
	__u16 data_type;
	__u16 data_length;
} __attribute__((packed, aligned(2))); /* as it lies in each frame */

/* What is read of a cyclic frame. */
struct io_reading {
	struct io_key key;
	__u32 sequence;
	__u16 data_type;
	__u16 data_length;
	__u16 room; /* bytes behind the two items' headers */
	__u8 exact; /* the datagram fills its packet */
};

/* The tags of a frame without those that only carry a priority (IEEE 802.1Q 6.9). */
static __always_inline void io_tags(struct frame *f, struct io_key *key)
{
	__u16 outer = f->key.tags[0], inner = f->key.tags[1];

	if (!(outer & 0x0fff)) {
		outer = inner;
		inner = 0;
	}
	key->tags[0] = outer & 0x0fff ? outer : 0;
	key->tags[1] = inner & 0x0fff ? inner : 0;
}

/* Reads the two items of a datagram of length bytes. Fails for another number or kind of items. */
static __always_inline int read_io_items(const struct io_frame *io, __u32 length, struct io_reading *r)
{
	if (length < sizeof(struct udphdr) + sizeof(*io) || io->items != 2 || io->address_type != IO_SEQUENCED_ADDRESS ||
	    io->address_length != 8)
		return -1;
	r->key.connection = io->connection;
	r->sequence = io->sequence;
	r->data_type = io->data_type;
	r->data_length = io->data_length;
	r->room = length - sizeof(struct udphdr) - sizeof(*io);
	return 0;
}

/* Reads a cyclic frame. Fails for what is none, and there is none over IPv6, in fragments or with options. */
static __always_inline int read_io(struct xdp_md *ctx, struct frame *f, struct io_reading *r)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	__u32 at = f->network, total = f->length - f->network - f->trailer, length;
	struct io_frame *io;
	struct udphdr *udp;
	struct iphdr *ip;

	if (f->ethertype != ETH_P_IP_ || f->options || f->source_routed)
		return -1;
	if (at > sizeof(struct ethhdr) + 2 * 4)
		return -1;
	ip = data + at;
	udp = (void *)(ip + 1);
	io = (void *)(udp + 1);
	if ((void *)(io + 1) > end)
		return -1;
	length = bpf_ntohs(udp->len);
	if (length < sizeof(*udp) || read_io_items(io, length, r))
		return -1;
	__builtin_memcpy(r->key.source_mac, source_mac(f), 6);
	__builtin_memcpy(r->key.destination_mac, destination_mac(f), 6);
	r->key.source = ip->saddr;
	r->key.destination = ip->daddr;
	io_tags(f, &r->key);
	r->key.side = f->side;
	r->exact = length == total - sizeof(*ip);
	return 0;
}

/* Whether it is all data, and fills its packet. */
static __always_inline int io_is_data(const struct io_reading *r)
{
	return r->exact && r->data_type == IO_CONNECTED_DATA && r->data_length == r->room;
}

/* Whether the consumer has given the direction up. The clock is coarse, and the consumer is patient
 * for as long as it said. */
static __always_inline int io_expired(__u64 now, struct io_state *s)
{
	/* In this order, the reverse of count_io's: the first frame shortens the time-out, and who sees that
	 * has to see that it came. */
	__u64 timeout = load_once(s->timeout);

	barrier();
	return (__s64)(now - load_once(s->seen) - IO_GRACE) > (__s64)timeout;
}

/* Takes the frame's number, which has to be a later one. Of two CPUs with the same number one
 * succeeds. */
static __always_inline int io_take_sequence(struct io_state *s, __u32 sequence)
{
	__u64 next = IO_STARTED | sequence;

#pragma unroll
	for (int i = 0; i < 4; i++) {
		__u64 last = *(volatile __u64 *)&s->sequence;
		__u32 ahead = sequence - (__u32)last;

		if ((last & IO_STARTED) && (ahead == 0 || ahead > IO_LEAP))
			return -1;
		if (__sync_val_compare_and_swap(&s->sequence, last, next) != last)
			continue;
		if ((last & IO_STARTED) && ahead > 1)
			__sync_fetch_and_add(&s->lost, ahead - 1);
		return 0;
	}
	return -1;
}

static __always_inline int io_size_agreed(struct io_half *half, __u16 size)
{
	return half->treatment & IO_VARIABLE ? size <= half->size : size == half->size;
}

/* One direction of an open connection, all of it there. */
struct io_direction {
	struct io_half *half;
	struct io_approval *approval;
	struct io_state *state;
};

/* The open connection that a frame is of, if the policy in force permits it and neither end has given it
 * up. */
static __always_inline int find_io(struct io_key *key, __u32 generation, __u64 now, struct io_direction *io)
{
	struct io_state *peer;
	__u32 at;

	io->half = bpf_map_lookup_elem(&io_halves, key);
	if (!io->half)
		return -1;
	at = (generation & 1 ? IO_PLACES : 0) + io->half->place;
	io->approval = bpf_map_lookup_elem(&io_approvals, &at);
	if (!io->approval || io->approval->generation != generation)
		return -1;
	io->state = bpf_map_lookup_elem(&io_states, &io->half->place);
	peer = bpf_map_lookup_elem(&io_states, &io->half->peer);
	if (!io->state || !peer)
		return -1;
	return io_expired(now, io->state) || (io->half->peer && io_expired(now, peer)) ? -1 : 0;
}

static __always_inline void count_io(struct io_direction *io, __u32 length, __u64 now)
{
	store_once(io->state->seen, now);
	barrier();
	store_once(io->state->timeout, io->half->timeout);
	io->state->frames++;
	io->state->bytes += length;
}

/* The verdict on a frame of an open connection. Returns 0 where there is none that the policy in
 * force permits, or it has been given up: identity, guard and conduit then say why it is denied. */
int __noinline decide_io(struct xdp_md *ctx, struct frame *f, struct decision *d)
{
	struct io_reading r = {};
	struct io_direction io;

	if (!f || !d || read_io(ctx, f, &r) || find_io(&r.key, d->generation, f->now, &io))
		return 0;
	d->conduit = io.approval->conduit;
	d->source = io.approval->source;
	d->destination = io.approval->destination;
	d->observed |= io.approval->observed;
	d->limited = io.approval->limited;
	if (!io_is_data(&r)) {
		deny(d, REASON_MALFORMED);
		return 1;
	}
	if (!io_size_agreed(io.half, r.data_length)) {
		__sync_fetch_and_add(&io.state->unequal, 1);
		deny(d, REASON_IO_SIZE);
		return 1;
	}
	if (io_take_sequence(io.state, r.sequence)) {
		__sync_fetch_and_add(&io.state->old, 1);
		deny(d, REASON_IO_SEQUENCE);
		return 1;
	}
	d->action = ACTION_ALLOW;
	d->reason = REASON_PERMITTED;
	if (d->limited && !within_conduit_limit(f, d))
		deny(d, REASON_RATE_EXCEEDED);
	d->limited = 0; /* it has taken its part */
	if (d->action == ACTION_ALLOW || d->observed)
		count_io(&io, f->length, f->now);
	return 1;
}

/* Notes a frame of a connection that is not known, for user space to adopt it as its last one was. */
int __noinline note_io(struct xdp_md *ctx, struct frame *f, struct decision *d)
{
	struct io_reading r = {};
	struct io_candidate c = {}, *noted;

	if (!f || !d || read_io(ctx, f, &r) || !io_is_data(&r))
		return -1;
	c.conduit = d->conduit;
	c.generation = d->generation;
	c.size = r.data_length;
	c.reverse = d->reverse;
	noted = bpf_map_lookup_elem(&io_candidates, &r.key);
	if (noted)
		*noted = c;
	else
		bpf_map_update_elem(&io_candidates, &r.key, &c, BPF_ANY);
	return 0;
}

#endif
