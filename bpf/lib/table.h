/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-3-Clause) */
/* The flow table: an array of entries, two to a cache line, each with a flow or free. A keyed hash of the
 * key names the entry where a flow is looked for first, its home. Where that is taken, the flow lies in
 * another entry around it, first of all in the one beside it, and a bit of the home's hops says in which;
 * where all of those are taken, around its second home. Of its flows that are farther away than beside
 * it, the home itself names one.
 *
 * An entry has no room for the key. It has its print: 60 bits of two more keyed hashes. That the prints
 * are the same is what decides. All hashes are MULTILINEAR-HM (Lemire and Kaser, "Strongly universal
 * string hashing is fast") with random seeds, drawn for these maps: for any two keys, whoever chose
 * them, the chance is 2^-60 that they have one print. The key itself is in the record, for who wants to
 * know it.
 *
 * Who adds, changes or removes a flow holds the lock of its home; so one key is never there twice,
 * and whoever holds the lock may rely on what it finds of the key. All of these are programs that
 * the kernel runs to their end with soft interrupts off, user space's removals too, so that a lock is
 * held for a moment, and by nobody who could die with it.
 *
 * Who only reads takes no lock. It reads the version, then what it needs, then the version again: if
 * that said live both times and is the same, then what it read belongs together, because
 *   - an entry is written only while its version says busy, but for what counts and ages: seen, state
 *     and sums, which decide nothing by themselves; and for the hop beside the print, which is not the
 *     flow's;
 *   - busy is stored before the first byte and the next version after the last one, each by an
 *     atomic exchange, which nothing passes on its way;
 *   - each change of state raises the version, which so is never what it was before;
 *   - x86-64 keeps loads in the order of the program (Intel SDM 3A 8.2.2, AMD APM 2 7.2), and the
 *     volatile loads and barrier() make the compiler keep it. A port to a machine that does not,
 *     needs acquire loads here.
 * What counts and ages may be written by a frame whose flow ended in that very moment, and then meets
 * the entry's next flow: it then has some frames more, was seen a moment later, or has shown what the one
 * before had, and expires earlier or later for that. */
#ifndef PENSTOCK_TABLE_H
#define PENSTOCK_TABLE_H

#include "decision.h"

#ifndef barrier
#define barrier() asm volatile("" ::: "memory")
#endif
#define load_once(x) (*(volatile typeof(x) *)&(x))
#define store_once(x, v) (*(volatile typeof(x) *)&(x) = (v))

#define LOCK_TRIES 512 /* some ten microseconds; a lock is held for less than one */
#define BUSY_TRIES 64

static __always_inline struct flow *entry(__u32 at)
{
	return bpf_map_lookup_elem(&flows, &at);
}

static __always_inline __u32 *hops_of(__u32 home)
{
	return bpf_map_lookup_elem(&flow_hops, &home);
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

/* A key as hashes take it. */
struct words {
	__u32 word[KEY_WORDS_IPV6];
};

/* What tells keys of IPv4 and IPv6 apart, beside the protocol. */
#define KIND_IPV4 (4u << 16)
#define KIND_IPV6 (6u << 16)

/* The words that keys of IPv4 and IPv6 both have. */
static __always_inline void set_words(struct words *w, const struct flow_key *k, __u32 kind)
{
	w->word[0] = *(const __u32 *)k->mac_a;
	w->word[1] = *(const __u16 *)(k->mac_a + 4) | (__u32)*(const __u16 *)k->mac_b << 16;
	w->word[2] = *(const __u32 *)(k->mac_b + 2);
	w->word[3] = k->port_a | (__u32)k->port_b << 16;
	w->word[4] = k->tags[0] | (__u32)k->tags[1] << 16;
	w->word[5] = k->protocol | (__u32)k->fragment << 8 | kind;
}

/* The sum over pairs of words, of which the upper half is the hash. The products do not wait for each
 * other. */
static __always_inline __u64 hash_words(const struct hash *h, const struct words *w, int words)
{
	__u64 sum = h->seeds[KEY_WORDS_IPV6];

	for (int i = 0; i < words; i += 2)
		sum += (h->seeds[i] + w->word[i]) * (h->seeds[i + 1] + w->word[i + 1]);
	return sum;
}

/* The hash is linear: keys of even steps, as those of a plant are, have hashes of even steps, which for some
 * seeds crowd in a small part of the table. This breaks the steps, and is one to one, so that what holds for
 * any two keys holds still. */
static __always_inline __u32 stir(__u32 hash)
{
	return (hash ^ hash >> 15) * 0x9e3779b1u;
}

/* What the hashes of a key say of its place, one after the other. Only a sum's upper half is the hash. The lower
 * one by itself is the same for many keys that are alike: for a second home it is joined with what is left of the
 * upper one beside the home. */
static __always_inline void set_place(struct place *p, int hash, __u64 sum, const struct control_block *state)
{
	if (hash == 0) {
		__u64 home = (__u64)stir(sum >> 32) * state->flow_homes;

		p->home = home >> 32;
		p->second = state->flow_homes + (((home ^ sum) & 0xffffffff) * state->flow_spill >> 32);
	} else {
		p->print = p->print << 32 | sum >> 32;
	}
}

int __noinline place_key(struct place *p, struct flow_key *k, struct control_block *state)
{
	struct words w;
	int ipv4;

	if (!p || !k || !state)
		return 0;
	ipv4 = is_mapped_ip(k->ip_a) && is_mapped_ip(k->ip_b);
	set_words(&w, k, ipv4 ? KIND_IPV4 : KIND_IPV6);
	if (ipv4) {
		w.word[6] = *(const __u32 *)(k->ip_a + 12);
		w.word[7] = *(const __u32 *)(k->ip_b + 12);
	} else {
		__builtin_memcpy(&w.word[6], k->ip_a, sizeof(k->ip_a) + sizeof(k->ip_b)); /* ip_b follows */
	}
#pragma clang loop unroll(disable)
	for (int i = 0; i < HASHES; i++)
		set_place(p, i, hash_words(&state->hashes[i], &w, ipv4 ? KEY_WORDS_IPV4 : KEY_WORDS_IPV6), state);
	return 0;
}

/* 0 where the entry has the print of the key. */
static __always_inline __u64 print_difference(const struct flow *w, const struct place *p)
{
	return (load_once(w->print) ^ p->print) & ~PRINT_HOP;
}

/* The version under which the entry holds the key, or 0. Of an entry that is being written it waits
 * to see what becomes of it. */
int __noinline version_of(__u32 at, struct place *p)
{
	struct flow *w = entry(at);
	__u32 version;

	if (!w || !p)
		return 0;
	for (int i = 0; i < BUSY_TRIES; i++) {
		version = load_once(w->version);
		barrier();
		if (print_difference(w, p) || (version & ENTRY_STATE) == ENTRY_FREE)
			return 0;
		if ((version & ENTRY_STATE) == ENTRY_BUSY)
			continue;
		barrier();
		if (load_once(w->version) == version)
			return version;
	}
	return 0;
}

/* Looks at the entries around a home that hold its flows. */
static __always_inline int search_around(__u32 home, __u32 hops, struct place *p)
{
	hops &= HOPS_MASK;
	for (__u32 i = 0; i < ENTRIES_AROUND && hops; i++, hops >>= 1) {
		if (!(hops & 1))
			continue;
		p->version = version_of(home ^ i, p);
		if (p->version) {
			p->at = home ^ i;
			return 1;
		}
	}
	return 0;
}

/* Looks at all entries where the flow may be. */
int __noinline search_all(struct place *p)
{
	__u32 *hops, *second;

	if (!p)
		return 0;
	p->version = 0;
	hops = hops_of(p->home);
	if (!hops || !(load_once(*hops) & ~HOPS_LOCK))
		return 0;
	if (search_around(p->home, load_once(*hops), p))
		return 1;
	if (!(load_once(*hops) & HOPS_SPILLED))
		return 0;
	second = hops_of(p->second);
	return second && search_around(p->second, load_once(*second), p);
}

static __always_inline struct flow *search_entry(struct place *p)
{
	return search_all(p) ? entry(p->at) : NULL;
}

/* 1 for anything but 0, without a jump. The compiler would see what it is for, and make one. */
static __always_inline __u64 is_set(__u64 v)
{
	__u64 negative = -v;

	barrier_var(negative);
	return (v | negative) >> 63;
}

/* Finds the flow of a key that was placed, and notes where and under which version. The first look,
 * which answers for most frames, is made in place: at the home, the entry beside it, and the one that
 * the home names, without a jump between them, which could not be foreseen and would wait for memory. */
static __always_inline struct flow *find_flow(struct place *p)
{
	struct flow *home = entry(p->home), *beside = entry(p->home ^ 1), *w;
	__u64 away, farther;

	if (!home || !beside)
		return NULL;
	away = is_set(print_difference(home, p));
	farther = away & is_set(print_difference(beside, p));
	p->at = p->home ^ (away & ~farther) ^ (load_once(home->print) & PRINT_HOP & -farther);
	w = entry(p->at);
	if (!w)
		return NULL;
	p->version = load_once(w->version);
	barrier();
	if (print_difference(w, p) || (p->version & ENTRY_STATE) != ENTRY_LIVE)
		return search_entry(p);
	return w;
}

/* Whether what was read of the entry since find_flow belongs to the flow that it found. */
static __always_inline int still_there(struct flow *w, struct place *p)
{
	barrier();
	return load_once(w->version) == p->version;
}

static __always_inline int lock_home(struct place *p)
{
	__u32 *hops = hops_of(p->home);

	if (!hops)
		return -1;
	for (int i = 0; i < LOCK_TRIES; i++)
		if (!(__sync_fetch_and_or(hops, HOPS_LOCK) & HOPS_LOCK))
			return 0;
	return -1;
}

static __always_inline void unlock_home(struct place *p)
{
	__u32 *hops = hops_of(p->home);

	if (hops)
		__sync_fetch_and_and(hops, ~HOPS_LOCK);
}

/* With the lock held: the flow may be written, and nobody reads it meanwhile. */
static __always_inline void open_entry(struct flow *w)
{
	__u32 version = w->version;

	__sync_lock_test_and_set(&w->version, ((version & ~ENTRY_STATE) + ENTRY_NEXT) | ENTRY_BUSY);
}

/* The end of that. */
static __always_inline __u32 close_entry(struct flow *w, __u32 as)
{
	__u32 version = ((w->version & ~ENTRY_STATE) + ENTRY_NEXT) | as;

	__sync_lock_test_and_set(&w->version, version);
	return version;
}

/* Takes the first free entry around a home. Flows of other homes want it, too. */
int __noinline claim_around(__u32 home, struct place *p)
{
	if (!p)
		return 0;
	for (__u32 i = 0; i < ENTRIES_AROUND; i++) {
		struct flow *w = entry(home ^ i);
		__u32 version;

		if (!w)
			return 0;
		version = load_once(w->version);
		if ((version & ENTRY_STATE) == ENTRY_FREE &&
		    __sync_val_compare_and_swap(&w->version, version, (version + ENTRY_NEXT) | ENTRY_BUSY) == version) {
			p->at = home ^ i;
			return 1;
		}
	}
	return 0;
}

/* An entry for a flow that has none, open, with the lock held; the caller writes the rest of it and
 * settles it. NULL where none is to be had. */
static __always_inline struct flow *claim_entry(struct place *p)
{
	__u8 spilled = 0;
	struct flow *w;
	__u32 *hops;

	if (!claim_around(p->home, p)) {
		hops = hops_of(p->home);
		if (!hops || !claim_around(p->second, p))
			return NULL;
		spilled = FLOW_SPILLED;
		__sync_fetch_and_or(hops, HOPS_SPILLED);
	}
	w = entry(p->at);
	if (!w)
		return NULL;
	/* Who holds the lock of the home that this entry is may set its hop meanwhile. */
	__sync_fetch_and_xor(&w->print, print_difference(w, p));
	w->treatment = spilled;
	return w;
}

/* With the lock of a home held: names one of the flows that are farther away than the entry beside it,
 * if there is one. */
static __always_inline void name_hop(struct flow *home, __u32 hops)
{
	__u64 hop = 0;

#pragma clang loop unroll(disable)
	for (__u32 i = 2; i < ENTRIES_AROUND; i++)
		if (hops & (1u << i))
			hop = i;
	__sync_fetch_and_xor(&home->print, (load_once(home->print) & PRINT_HOP) ^ hop);
}

/* Sets, or clears, the bit of the flow that is in the entry. */
int __noinline mark_hop(struct place *p, __u8 spilled, __u8 there)
{
	struct flow *w;
	__u32 *hops, home, hop;

	if (!p)
		return 0;
	home = spilled ? p->second : p->home;
	hop = 1u << ((p->at ^ home) % ENTRIES_AROUND);
	hops = hops_of(home);
	w = entry(home);
	if (!hops || !w)
		return 0;
	if (there)
		__sync_fetch_and_or(hops, hop);
	else
		__sync_fetch_and_and(hops, ~hop);
	if (!spilled) /* a second home is no one's lock */
		name_hop(w, load_once(*hops));
	return 0;
}

/* With the lock held: makes a claimed entry the flow that is in it. */
static __always_inline void settle_entry(struct flow *w, struct place *p)
{
	mark_hop(p, w->treatment & FLOW_SPILLED, 1);
	p->version = close_entry(w, ENTRY_LIVE);
}

/* With the lock held: the flow is no more. Its bit goes before the entry is free, for the next one
 * to take the entry may set the same bit. */
static __always_inline void free_entry(struct flow *w, struct place *p)
{
	open_entry(w);
	mark_hop(p, w->treatment & FLOW_SPILLED, 0);
	close_entry(w, ENTRY_FREE);
	p->version = 0;
}

/* With the lock held: whether the flow that was found is still there, as it was. */
static __always_inline int unchanged(struct flow *w, struct place *p)
{
	return p->version && load_once(w->version) == p->version;
}

#endif
