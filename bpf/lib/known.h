/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-3-Clause) */
/* The short way of nearly every frame: TCP or UDP between two devices, over IPv4 without options, tags or
 * fragments, of a conversation or of an I/O connection that is known and allowed, and has no limit. It does what
 * the long way would do with it, and no more than that needs. Whatever is different, odd, or of any interest to
 * somebody, goes the long way as if it had never been here.
 *
 * It is short for the sake of what it reads, too: between two cyclic frames other work takes the caches, and
 * each line that one has to wait for is a part of its jitter. */
#ifndef PENSTOCK_KNOWN_H
#define PENSTOCK_KNOWN_H

#include "flow.h"
#include "io.h"

enum plain {
	PLAIN_OTHER,	    /* goes the long way */
	PLAIN_CONVERSATION, /* TCP or UDP */
	PLAIN_CYCLIC,	    /* UDP to the port of cyclic I/O */
};

/* Where things are in a frame that may go the short way. */
static __always_inline const struct iphdr *plain_ip(const void *frame)
{
	return frame + sizeof(struct ethhdr);
}

static __always_inline const void *plain_transport(const void *frame)
{
	return plain_ip(frame) + 1;
}

/* What a frame is, of those that may go the short way. */
static __always_inline enum plain plain_kind(const void *frame, const void *end, __u32 length)
{
	const struct ethhdr *eth = frame;
	const struct iphdr *ip = plain_ip(frame);
	const struct tcphdr *tcp = plain_transport(frame);
	const struct udphdr *udp = plain_transport(frame);
	__u32 total;

	if ((const void *)(tcp + 1) > end)
		return PLAIN_OTHER;
	if (*(const __be16 *)((const void *)ip - sizeof(__be16)) != bpf_htons(ETH_P_IP_) || *(const __u8 *)ip != 0x45 ||
	    (ip->frag_off & bpf_htons(0x3fff)) || is_multicast_mac(eth->h_source) || is_multicast_mac(eth->h_dest))
		return PLAIN_OTHER;
	total = bpf_ntohs(ip->tot_len);
	if (total > length - sizeof(*eth))
		return PLAIN_OTHER;
	switch (ip->protocol) {
	case IPPROTO_TCP:
		if (total < sizeof(*ip) + sizeof(*tcp) || tcp->doff < 5 || tcp->doff * 4 > total - sizeof(*ip) ||
		    ((const __u8 *)tcp)[13] & (TCP_SYN | TCP_FIN | TCP_RST))
			return PLAIN_OTHER;
		return PLAIN_CONVERSATION;
	case IPPROTO_UDP:
		if (total < sizeof(*ip) + sizeof(*udp) || bpf_ntohs(udp->len) < sizeof(*udp) ||
		    bpf_ntohs(udp->len) > total - sizeof(*ip))
			return PLAIN_OTHER;
		return udp->dest == bpf_htons(IO_PORT) ? PLAIN_CYCLIC : PLAIN_CONVERSATION;
	}
	return PLAIN_OTHER;
}

/* The words of a key in the order of set_words, of a frame whose side is known as a constant. */
static __always_inline void set_plain_words(struct words *w, __u8 side, const void *frame)
{
	const struct ethhdr *eth = frame;
	const struct iphdr *ip = plain_ip(frame);
	const __be16 *ports = plain_transport(frame);
	const __u8 *a = side == SIDE_A ? eth->h_source : eth->h_dest;
	const __u8 *b = side == SIDE_A ? eth->h_dest : eth->h_source;

	w->word[0] = *(const __u32 *)a;
	w->word[1] = *(const __u16 *)(a + 4) | (__u32)*(const __u16 *)b << 16;
	w->word[2] = *(const __u32 *)(b + 2);
	w->word[3] = side == SIDE_A ? ports[0] | (__u32)ports[1] << 16 : ports[1] | (__u32)ports[0] << 16;
	w->word[4] = 0;
	w->word[5] = ip->protocol | KIND_IPV4;
	w->word[6] = side == SIDE_A ? ip->saddr : ip->daddr;
	w->word[7] = side == SIDE_A ? ip->daddr : ip->saddr;
}

/* The flow that allows the frame by itself, under the policy in force, and its conduit; NULL if none does. */
static __always_inline struct flow *allowing_flow(struct place *p, __u8 protocol, const struct control_block *state,
						  __u64 now, __u32 generation, __u32 *conduit)
{
	struct flow *w = find_flow(p);

	if (!w || w->treatment & (FLOW_INSPECT | FLOW_LIMITED) || !up_to_date(w, protocol, now, generation) ||
	    longer_ago(now, load_once(w->seen), idle_limit(protocol, w)))
		return NULL;
	*conduit = w->conduit;
	return still_there(w, p) ? w : NULL;
}

static __always_inline void count_pass(__u32 index, __u32 conduit)
{
	__u32 at = (bpf_get_smp_processor_id() * GENERATIONS + index) * MAX_CONDUITS + conduit;
	__u64 *passes = bpf_map_lookup_elem(&conduit_passes, &at);

	if (passes)
		++*passes;
}

/* Counts a frame of a known conversation. Returns 0 for one that has to go the long way. The place is
 * lent: there is not much room on the stack. */
static __always_inline int passes_known(const void *frame, __u8 side, __u32 length, struct control_block *state,
					struct place *p)
{
	__u32 generation = load_once(state->generation), conduit;
	__u64 now = bpf_jiffies64() * state->tick;
	struct words words;
	struct flow *w;

	set_plain_words(&words, side, frame);
	for (int i = 0; i < HASHES; i++)
		set_place(p, i, hash_words(&state->hashes[i], &words, KEY_WORDS_IPV4), state);
	w = allowing_flow(p, words.word[5], state, now, generation, &conduit);
	if (!w)
		return 0;
	count_to_flow(w, p->at, side, length, now);
	count_pass(generation & 1, conduit);
	return 1;
}

/* Reads a cyclic frame. Fails unless it is one that fills its packet, with nothing odd. */
static __always_inline int read_plain_io(const void *frame, const void *end, __u8 side, struct io_reading *r)
{
	const struct ethhdr *eth = frame;
	const struct iphdr *ip = plain_ip(frame);
	const struct udphdr *udp = plain_transport(frame);
	const struct io_frame *io = (const void *)(udp + 1);

	if ((const void *)(io + 1) > end || bpf_ntohs(ip->tot_len) - sizeof(*ip) != bpf_ntohs(udp->len) ||
	    read_io_items(io, bpf_ntohs(udp->len), r))
		return -1;
	copy_mac(r->key.source_mac, eth->h_source);
	*(__u16 *)r->key.destination_mac = *(const __u16 *)eth->h_dest; /* as it is aligned in the key */
	*(__u32 *)(r->key.destination_mac + 2) = *(const __u32 *)(eth->h_dest + 2);
	r->key.source = ip->saddr;
	r->key.destination = ip->daddr;
	r->key.side = side;
	r->exact = 1;
	return io_is_data(r) ? 0 : -1;
}

/* Counts a frame of an open I/O connection, as passes_known does one of a conversation. */
static __always_inline int passes_cyclic(const void *frame, const void *end, __u8 side, __u32 length,
					 struct control_block *state)
{
	__u32 generation = load_once(state->generation);
	__u64 now = bpf_jiffies64() * state->tick;
	struct io_reading r = {};
	struct io_direction io;

	if (!generation || read_plain_io(frame, end, side, &r) || find_io(&r.key, generation, now, &io) ||
	    io.approval->limited || !io_size_agreed(io.half, r.data_length) || io_take_sequence(io.state, r.sequence))
		return 0;
	count_io(&io, length, now);
	count_pass(generation & 1, io.approval->conduit);
	return 1;
}

/* Whether a frame went the short way; if not, nothing has been done with it. */
static __always_inline int passes_plainly(struct xdp_md *ctx, __u8 side, __u32 length, struct control_block *state,
					  struct place *p)
{
	const void *frame = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;

	if (length > FRAME_MAX)
		return 0;
	switch (plain_kind(frame, end, length)) {
	case PLAIN_CONVERSATION:
		return passes_known(frame, side, length, state, p);
	case PLAIN_CYCLIC:
		return passes_cyclic(frame, end, side, length, state);
	default:
		return 0;
	}
}

#endif
