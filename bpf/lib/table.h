/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-3-Clause) */
/* The flow table: an array of cache lines, each with a whole flow or free. A keyed hash of the key
 * names the line where a flow is looked for first, its home. Where that is taken, the flow lies in
 * another line around it, first of all in the one beside it, and a bit of the home says in which; where
 * all of those are taken, around its second home. What decides is always the comparison of the whole
 * key.
 *
 * The hash is MULTILINEAR-HM (Lemire and Kaser, "Strongly universal string hashing is fast") with
 * random seeds: who does not know them cannot aim at a line, and for no two keys is it likelier than
 * by chance that they meet.
 *
 * Who adds, changes or removes a flow holds the lock of its home; so one key is never there twice,
 * and whoever holds the lock may rely on what it finds of the key. All of these are programs that
 * the kernel runs to their end with soft interrupts off, user space's removals too, so that a lock is
 * held for a moment, and by nobody who could die with it.
 *
 * Who only reads takes no lock. It reads the version, then what it needs, then the version again: if
 * that said live both times and is the same, then what it read belongs together, because
 *   - a line is written only while its version says busy, but for what counts and ages: hops, seen,
 *     state and sums, which decide nothing by themselves;
 *   - busy is stored before the first byte and the next version after the last one, each by an
 *     atomic exchange, which nothing passes on its way;
 *   - each change of state raises the version, which so is never what it was before;
 *   - x86-64 keeps loads in the order of the program (Intel SDM 3A 8.2.2, AMD APM 2 7.2), and the
 *     volatile loads and barrier() make the compiler keep it. A port to a machine that does not,
 *     needs acquire loads here.
 * What counts and ages may be written by a frame whose flow ended in that very moment, and then meets
 * the line's next flow: it is then a frame more, seen a moment later, or closed, and expires earlier. */
#ifndef PENSTOCK_TABLE_H
#define PENSTOCK_TABLE_H

#include "decision.h"

#ifndef barrier
#define barrier() asm volatile("" ::: "memory")
#endif
#define load_once(x) (*(volatile typeof(x) *)&(x))

#define LOCK_TRIES 512 /* some ten microseconds; a lock is held for less than one */
#define BUSY_TRIES 64

static __always_inline struct flow *line(__u32 at)
{
	return bpf_map_lookup_elem(&flows, &at);
}

static __always_inline struct flow_record *record(__u32 at)
{
	return bpf_map_lookup_elem(&flow_records, &at);
}

static __always_inline int is_mapped_ip(const __u8 *ip)
{
	const __u32 *w = (const __u32 *)ip;

	return !(w[0] | w[1] | (w[2] ^ bpf_htonl(0xffff)));
}

/* The sum over pairs of words, of which the upper half is the hash. */
static __always_inline __u64 hash_pair(const __u64 *seed, __u32 low, __u32 high)
{
	return (seed[0] + low) * (seed[1] + high);
}

static __always_inline __u32 hash_ip(const __u64 *seeds, const __u8 *ip)
{
	const __u32 *w = (const __u32 *)ip;

	return (seeds[8] + hash_pair(seeds, w[0], w[1]) + hash_pair(seeds + 2, w[2], w[3])) >> 32;
}

static __always_inline void set_homes(struct place *p, const struct control_block *state)
{
	const __u64 *seeds = state->seeds;
	__u64 sum = seeds[8];

#pragma unroll
	for (int i = 0; i < 4; i++)
		sum += hash_pair(seeds + 2 * i, p->words[i], p->words[i] >> 32);
	p->home = (sum >> 32) * state->flow_homes >> 32;
	p->second = state->flow_homes + ((sum & 0xffffffff) * state->flow_spill >> 32);
}

/* The words of a line, as struct flow has them. They tell keys apart exactly but for IPv6, where
 * the record has to be asked, too. */
static __always_inline void set_words(struct place *p, const struct flow_key *k, __u32 a, __u32 b, __u64 kind)
{
	p->words[0] = *(const __u32 *)k->mac_a | (__u64)*(const __u16 *)(k->mac_a + 4) << 32 |
		      (__u64)*(const __u16 *)k->mac_b << 48;
	p->words[1] = *(const __u32 *)(k->mac_b + 2) | (__u64)k->port_a << 32 | (__u64)k->port_b << 48;
	p->words[2] = a | (__u64)b << 32;
	p->words[3] = k->tags[0] | (__u32)k->tags[1] << 16 | (__u64)k->protocol << 32 |
		      (kind | (k->fragment ? LINE_FRAGMENT : 0)) << 40;
}

/* Both addresses of the key are IPv4. */
static __always_inline void place_ipv4(struct place *p, const struct flow_key *k, const struct control_block *state)
{
	set_words(p, k, *(const __u32 *)(k->ip_a + 12), *(const __u32 *)(k->ip_b + 12), 0);
	set_homes(p, state);
}

int __noinline place_key(struct place *p, struct flow_key *k, struct control_block *state)
{
	if (!p || !k || !state)
		return 0;
	if (is_mapped_ip(k->ip_a) && is_mapped_ip(k->ip_b)) {
		place_ipv4(p, k, state);
		return 0;
	}
	set_words(p, k, hash_ip(state->seeds, k->ip_a), hash_ip(state->seeds, k->ip_b), LINE_IPV6);
	set_homes(p, state);
	return 0;
}

/* The conduit, in the last word's upper bits, is not of the key. */
#define KEY_OF_LAST(word) ((word) & 0x0000ffffffffffffull)

static __always_inline __u64 line_difference(const struct flow *w, const struct place *p)
{
	const __u64 *words = (const __u64 *)w;

	return (load_once(words[0]) ^ p->words[0]) | (load_once(words[1]) ^ p->words[1]) |
	       (load_once(words[2]) ^ p->words[2]) | KEY_OF_LAST(load_once(words[3]) ^ p->words[3]);
}

static __always_inline int same_addresses(const struct flow_key *a, const struct flow_key *b)
{
	const __u32 *v = (const __u32 *)a->ip_a, *w = (const __u32 *)b->ip_a; /* ip_b follows */
	__u32 difference = 0;

#pragma unroll
	for (int i = 0; i < 8; i++)
		difference |= load_once(v[i]) ^ w[i];
	return !difference;
}

/* The version under which the line holds the key, or 0. Of a line that is being written it waits
 * to see what becomes of it. */
int __noinline version_of(__u32 at, struct place *p, struct flow_key *key)
{
	struct flow_record *r = record(at);
	struct flow *w = line(at);
	__u32 version;

	if (!w || !r || !p || !key)
		return 0;
	for (int i = 0; i < BUSY_TRIES; i++) {
		version = load_once(w->version);
		barrier();
		if (line_difference(w, p))
			return 0;
		if ((version & LINE_STATE) == LINE_FREE)
			return 0;
		if ((version & LINE_STATE) == LINE_BUSY)
			continue;
		if ((w->kind & LINE_IPV6) && !same_addresses(&r->key, key))
			return 0;
		barrier();
		if (load_once(w->version) == version)
			return version;
	}
	return 0;
}

/* Looks at the lines around a home that hold its flows. */
int __noinline search_around(__u32 home, struct place *p, struct flow_key *key)
{
	struct flow *w = line(home);
	__u32 hops;

	if (!w || !p || !key)
		return 0;
	hops = load_once(w->hops) & HOPS_MASK;
	for (__u32 i = 0; i < LINES_AROUND && hops; i++, hops >>= 1) {
		if (!(hops & 1))
			continue;
		p->version = version_of(home ^ i, p, key);
		if (p->version) {
			p->at = home ^ i;
			return 1;
		}
	}
	return 0;
}

/* Where the flow is, seen from the line of its home. */
static __always_inline struct flow *search_line(struct flow *at_home, struct place *p, struct flow_key *key)
{
	__u32 hops = load_once(at_home->hops) & ~HOPS_LOCK;

	p->version = 0;
	if (!hops)
		return NULL;
	if (search_around(p->home, p, key) || ((hops & HOPS_SPILLED) && search_around(p->second, p, key)))
		return line(p->at);
	return NULL;
}

/* 1 for anything but 0, without a jump. */
static __always_inline __u64 is_set(__u64 v)
{
	v = (v | -v) >> 63;
	barrier_var(v);
	return v;
}

/* Finds the flow of a key that was placed, and notes where and under which version. The first look,
 * which answers for most frames, is made in place: at the home and at the line beside it, without a
 * jump between the two, which could not be foreseen and would wait for memory. */
static __always_inline struct flow *find_flow(struct place *p, struct flow_key *key)
{
	struct flow *w = line(p->home), *beside = line(p->home ^ 1);
	__u32 version, version_beside;
	__u64 away, difference;

	if (!w || !beside)
		return NULL;
	version = load_once(w->version);
	version_beside = load_once(beside->version);
	barrier();
	away = is_set(line_difference(w, p));
	difference = line_difference(beside, p) & -away;
	version ^= (version ^ version_beside) & -(__u32)away;
	if (difference || (version & LINE_STATE) != LINE_LIVE || (p->words[3] >> 40 & LINE_IPV6))
		return search_line(w, p, key);
	p->at = p->home ^ away;
	p->version = version;
	return line(p->at);
}

/* Whether what was read of the line since find_flow belongs to the flow that it found. */
static __always_inline int still_there(struct flow *w, struct place *p)
{
	barrier();
	return load_once(w->version) == p->version;
}

static __always_inline int lock_home(struct place *p)
{
	struct flow *w = line(p->home);

	if (!w)
		return -1;
	for (int i = 0; i < LOCK_TRIES; i++)
		if (!(__sync_fetch_and_or(&w->hops, HOPS_LOCK) & HOPS_LOCK))
			return 0;
	return -1;
}

static __always_inline void unlock_home(struct place *p)
{
	struct flow *w = line(p->home);

	if (w)
		__sync_fetch_and_and(&w->hops, ~HOPS_LOCK);
}

/* With the lock held: the flow may be written, and nobody reads it meanwhile. */
static __always_inline void open_line(struct flow *w)
{
	__u32 version = w->version;

	__sync_lock_test_and_set(&w->version, ((version & ~LINE_STATE) + LINE_NEXT) | LINE_BUSY);
}

/* The end of that. */
static __always_inline __u32 close_line(struct flow *w, __u32 as)
{
	__u32 version = ((w->version & ~LINE_STATE) + LINE_NEXT) | as;

	__sync_lock_test_and_set(&w->version, version);
	return version;
}

/* Takes the first free line around a home. Flows of other homes want it, too. */
int __noinline claim_around(__u32 home, struct place *p)
{
	if (!p)
		return 0;
	for (__u32 i = 0; i < LINES_AROUND; i++) {
		struct flow *w = line(home ^ i);
		__u32 version;

		if (!w)
			return 0;
		version = load_once(w->version);
		if ((version & LINE_STATE) == LINE_FREE &&
		    __sync_val_compare_and_swap(&w->version, version, (version + LINE_NEXT) | LINE_BUSY) == version) {
			p->at = home ^ i;
			return 1;
		}
	}
	return 0;
}

/* A line for a flow that has none, open, with the lock held; the caller writes the rest of it and
 * settles it. NULL where none is to be had. */
static __always_inline struct flow *claim_line(struct place *p)
{
	struct flow *w, *at_home;
	__u8 spilled = 0;

	if (!claim_around(p->home, p)) {
		at_home = line(p->home);
		if (!at_home || !claim_around(p->second, p))
			return NULL;
		spilled = 1;
		__sync_fetch_and_or(&at_home->hops, HOPS_SPILLED);
	}
	w = line(p->at);
	if (!w)
		return NULL;
	__builtin_memcpy(w, p->words, sizeof(p->words));
	w->spilled = spilled;
	return w;
}

/* Sets, or clears, the bit of the flow that is in the line. */
static __always_inline void mark_hop(struct flow *w, struct place *p, int there)
{
	__u32 home = w->spilled ? p->second : p->home;
	struct flow *at_home = line(home);

	if (!at_home)
		return;
	if (there)
		__sync_fetch_and_or(&at_home->hops, 1u << ((p->at ^ home) % LINES_AROUND));
	else
		__sync_fetch_and_and(&at_home->hops, ~(1u << ((p->at ^ home) % LINES_AROUND)));
}

/* With the lock held: makes a claimed line the flow that is in it. */
static __always_inline void settle_line(struct flow *w, struct place *p)
{
	mark_hop(w, p, 1);
	p->version = close_line(w, LINE_LIVE);
}

/* With the lock held: the flow is no more. Its bit goes before the line is free, for the next one
 * to take the line may set the same bit. */
static __always_inline void free_line(struct flow *w, struct place *p)
{
	open_line(w);
	mark_hop(w, p, 0);
	close_line(w, LINE_FREE);
	p->version = 0;
}

/* With the lock held: whether the flow that was found is still there, as it was. */
static __always_inline int unchanged(struct flow *w, struct place *p)
{
	return p->version && load_once(w->version) == p->version;
}

#endif
