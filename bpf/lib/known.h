/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-3-Clause) */
/* The short way of nearly every frame: TCP or UDP between two devices, over IPv4 without options, tags or
 * fragments, of a conversation that is known and allowed, and has no limit. It does what the long way
 * would do with it, and no more than that needs. Whatever is different, odd, or of any interest to
 * somebody, goes the long way as if it had never been here. */
#ifndef PENSTOCK_KNOWN_H
#define PENSTOCK_KNOWN_H

#include "flow.h"

/* The words of a key in the order of set_words, from a header whose side is known as a constant. */
static __always_inline void set_plain_words(struct words *w, __u8 side, const struct ethhdr *eth,
					    const struct iphdr *ip, const __be16 *ports)
{
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

/* Whether a frame is of those that may go the short way, and if so, the words of its key. */
static __always_inline int read_plain(struct xdp_md *ctx, __u8 side, __u32 length, struct words *w)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = data;
	struct iphdr *ip = (void *)(eth + 1);
	struct tcphdr *tcp = (void *)(ip + 1);
	struct udphdr *udp = (void *)(ip + 1);
	__u32 total;

	if ((void *)(tcp + 1) > end)
		return 0;
	if (*(__be16 *)((void *)ip - sizeof(__be16)) != bpf_htons(ETH_P_IP_) || *(__u8 *)ip != 0x45 ||
	    (ip->frag_off & bpf_htons(0x3fff)) || is_multicast_mac(eth->h_source) || is_multicast_mac(eth->h_dest))
		return 0;
	total = bpf_ntohs(ip->tot_len);
	if (total > length - sizeof(*eth))
		return 0;
	switch (ip->protocol) {
	case IPPROTO_TCP:
		if (total < sizeof(*ip) + sizeof(*tcp) || tcp->doff < 5 || tcp->doff * 4 > total - sizeof(*ip) ||
		    ((__u8 *)tcp)[13] & (TCP_SYN | TCP_FIN | TCP_RST))
			return 0;
		break;
	case IPPROTO_UDP:
		if (total < sizeof(*ip) + sizeof(*udp) || bpf_ntohs(udp->len) < sizeof(*udp) ||
		    bpf_ntohs(udp->len) > total - sizeof(*ip) || udp->dest == bpf_htons(IO_PORT))
			return 0;
		break;
	default:
		return 0;
	}
	set_plain_words(w, side, eth, ip, (const __be16 *)(ip + 1));
	return 1;
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

/* Counts a frame that goes the short way. Returns 0 for one that has to go the long one. The place is
 * lent: there is not much room on the stack. */
static __always_inline int passes_known(struct xdp_md *ctx, __u8 side, __u32 length, struct control_block *state,
					struct place *p)
{
	__u32 generation = load_once(state->generation), conduit;
	__u64 now = bpf_jiffies64() * state->tick;
	struct words words;
	struct flow *w;

	if (length > FRAME_MAX || !read_plain(ctx, side, length, &words))
		return 0;
	for (int i = 0; i < HASHES; i++)
		set_place(p, i, hash_words(&state->hashes[i], &words, KEY_WORDS_IPV4), state);
	w = allowing_flow(p, words.word[5], state, now, generation, &conduit);
	if (!w)
		return 0;
	count_to_flow(w, p->at, side, length, now);
	count_pass(generation & 1, conduit);
	return 1;
}

#endif
