/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-3-Clause) */
/* Who sends, and who shall receive. MAC first; a router's MAC leads to the address behind it.
 * The guard ties an identity to its side, its VLANs and its addresses. */
#ifndef PENSTOCK_IDENTITY_H
#define PENSTOCK_IDENTITY_H

#include "decision.h"

static __always_inline __u32 identity_of_mac(__u32 index, const __u8 *mac)
{
	struct mac_key key = {};
	void *map = bpf_map_lookup_elem(&macs, &index);
	__u32 *id;

	if (!map)
		return 0;
	__builtin_memcpy(key.mac, mac, 6);
	id = bpf_map_lookup_elem(map, &key);
	return id ? *id : 0;
}

enum end { SOURCE, DESTINATION, TARGET /* of neighbour discovery */ };

/* Whom the frame's address means, for one that carries holder's MAC; holder 0: whose it is. */
__u32 __noinline identity_of_address(struct frame *f, __u32 index, __u32 holder, enum end end)
{
	struct address_key key = {.prefix_length = 32 + 128, .holder = bpf_htonl(holder)};
	void *map = bpf_map_lookup_elem(&addresses, &index);
	__u32 *id;

	if (!map || !f)
		return 0;
	__builtin_memcpy(key.address,
			 end == TARGET ? f->about.ip_a :
			 end == SOURCE ? source_ip(f) : destination_ip(f), 16);
	id = bpf_map_lookup_elem(map, &key);
	return id ? *id : 0;
}

static __always_inline struct identity *identity(__u32 index, __u32 id)
{
	void *map = bpf_map_lookup_elem(&identities, &index);

	return map ? bpf_map_lookup_elem(map, &id) : NULL;
}

static __always_inline int is_multicast_mac(const __u8 *mac)
{
	return mac[0] & 1;
}

static __always_inline int is_zero_ip(const __u8 *ip)
{
	const __u32 *w = (const __u32 *)ip;

	return !(w[0] | w[1]) && (w[2] == 0 || w[2] == bpf_htonl(0xffff)) && !w[3];
}

static __always_inline int in_vlan(struct identity *who, __u16 vid)
{
	return (who->vlans[vid / 64] >> (vid % 64)) & 1;
}

/* VLANs on which the identity may be seen. A priority tag (identifier 0) is no VLAN
 * (IEEE 802.1Q 6.9): receivers look behind it. Each other tag has to be permitted, the inner one
 * too: a switch that takes the outer one off carries the frame on in the inner one's VLAN. */
static __always_inline int vlan_permitted(struct identity *who, struct frame *f)
{
	__u16 outer = f->key.tags[0] & 0x0fff, inner = f->key.tags[1] & 0x0fff;

	if (!outer && !inner)
		return who->untagged;
	return (!outer || in_vlan(who, outer)) && (!inner || in_vlan(who, inner));
}

/* Whose address is it, for a frame that carries holder's MAC? An identity without addresses of
 * its own may use each that belongs to nobody. Returns 0 where nobody may use it. */
static __always_inline __u32 owner_behind(struct frame *f, __u32 index, __u32 holder,
					  struct identity *who, enum end end)
{
	__u32 id = identity_of_address(f, index, holder, end);

	if (id || !who->unbound)
		return id;
	return identity_of_address(f, index, 0, end) ? 0 : holder;
}

/* fe80::/10 (RFC 4291 2.5.6): policies do not list them, every interface has one. */
static __always_inline int is_link_local_ip(const __u8 *ip)
{
	return ip[0] == 0xfe && (ip[1] & 0xc0) == 0x80;
}

/* Whether holder may claim the address by neighbour discovery: its own, or a link-local one that
 * is nobody else's. */
static __always_inline int may_claim(struct frame *f, __u32 index, __u32 holder, struct identity *who,
				     enum end end, const __u8 *address)
{
	if (is_link_local_ip(address) && !identity_of_address(f, index, 0, end))
		return 1;
	return owner_behind(f, index, holder, who, end) == holder;
}

/* Whether the frame detects duplicates of an address (RFC 4862 5.4.2). */
static __always_inline int is_detection(struct frame *f)
{
	return f->neighbour == ND_NEIGHBOUR_SOLICITATION && is_zero_ip(source_ip(f));
}

/* Whether a device may ask if anybody has the address, in order to take it: its own, or nobody's. Asked for
 * another's, that one gives it up when it is about to take it (RFC 5227 2.1.1, RFC 4862 5.4.3). */
static __always_inline int may_probe(struct frame *f, __u32 index, __u32 id, enum end end)
{
	__u32 owner = identity_of_address(f, index, 0, end);

	return !owner || owner == id;
}

/* Neighbour discovery is to IPv6 what ARP is to IPv4, and more: only a router advertises itself
 * as one, and nobody redirects (RFC 4861 8 lets whoever is on the link do it). */
static __always_inline int guard_neighbour(struct frame *f, struct decision *d, __u32 id,
					   struct identity *who)
{
	if (!d->arp_guard)
		return 0;
	if (f->arp_foreign_hardware || f->neighbour == ND_REDIRECT)
		return deny(d, REASON_ARP_SPOOFED);
	if (f->neighbour == ND_ROUTER_ADVERTISEMENT && who->kind != KIND_ROUTER)
		return deny(d, REASON_ARP_SPOOFED);
	if (!is_zero_ip(source_ip(f)) && !may_claim(f, d->index, id, who, SOURCE, source_ip(f)))
		return deny(d, REASON_ARP_SPOOFED);
	if (f->neighbour == ND_NEIGHBOUR_ADVERTISEMENT &&
	    !may_claim(f, d->index, id, who, TARGET, f->about.ip_a))
		return deny(d, REASON_ARP_SPOOFED);
	if (is_detection(f) && !may_probe(f, d->index, id, TARGET))
		return deny(d, REASON_ARP_SPOOFED);
	return 0;
}

/* A stranger that claims somebody's address or disputes it, that redirects, or that says it is a
 * router. */
static __always_inline int claims_of_others(struct frame *f, __u32 index)
{
	if (f->is_arp)
		return identity_of_address(f, index, 0, SOURCE) ||
		       (f->arp_probe && identity_of_address(f, index, 0, DESTINATION));
	if (f->neighbour == ND_REDIRECT || f->neighbour == ND_ROUTER_ADVERTISEMENT)
		return 1;
	return (f->neighbour == ND_NEIGHBOUR_ADVERTISEMENT || is_detection(f)) &&
	       identity_of_address(f, index, 0, TARGET);
}

/* A device that has no address yet asks for one from none (RFC 2131 4.1, RFC 4862 5.4.2), and
 * joins groups (RFC 3376 4.2.13, RFC 3590). Nothing else may come from nobody. */
static __always_inline int is_booting(struct frame *f)
{
	if (!is_zero_ip(source_ip(f)))
		return 0;
	return f->hop_limit ? f->key.protocol == IPPROTO_ICMPV6 :
			      f->key.protocol == IPPROTO_UDP || f->key.protocol == IPPROTO_IGMP;
}

/* Addresses that nobody sends from: this network and this host, groups, broadcast (RFC 1122 3.2.1.3,
 * RFC 4291 2.5.2, 2.5.3 and 2.7). Stacks take some of these for their own. */
static __always_inline int is_no_sender(const __u8 *ip)
{
	const __u32 *w = (const __u32 *)ip;

	if (ip[0] == 0xff)
		return 1;
	if (w[0] | w[1])
		return 0;
	if (w[2] == bpf_htonl(0xffff))
		return ip[12] == 0 || ip[12] == 127 || ip[12] >= 224;
	return !w[2] && (w[3] == 0 || w[3] == bpf_htonl(1));
}

/* The groups that neighbour discovery is sent to: a solicited node, all nodes, all routers
 * (RFC 2464 7). */
static __always_inline int is_neighbour_group(struct frame *f)
{
	__u8 *mac = destination_mac(f);

	if (!f->neighbour || mac[0] != 0x33 || mac[1] != 0x33)
		return 0;
	return mac[2] == 0xff || (!mac[2] && !mac[3] && !mac[4] && (mac[5] == 1 || mac[5] == 2));
}

/* Resolves and guards the sender. d->source is set as far as it is known, for the event. */
int __noinline resolve_source(struct frame *f, struct decision *d)
{
	struct identity *who;
	__u32 id, owner;

	if (!f || !d)
		return -1;
	id = identity_of_mac(d->index, source_mac(f));
	if (!id) {
		/* A stranger that uses somebody's address is more than a stranger. */
		if (f->is_ip && identity_of_address(f, d->index, 0, SOURCE))
			return deny(d, REASON_ADDRESS_SPOOFED);
		if ((f->is_arp || f->neighbour) && claims_of_others(f, d->index))
			return deny(d, REASON_ARP_SPOOFED);
		return deny(d, REASON_UNKNOWN_SOURCE);
	}
	d->source = id;
	who = identity(d->index, id);
	if (!who)
		return deny(d, REASON_UNKNOWN_SOURCE);
	if (who->side != f->side)
		return deny(d, REASON_WRONG_PORT);
	if (!vlan_permitted(who, f))
		return deny(d, REASON_VLAN_NOT_PERMITTED);
	if (f->is_arp) {
		/* A probe (RFC 5227) says which address it is for as the target. Everything else
		 * claims the sender's address, which has to be the device's own: no proxy ARP. */
		if (!d->arp_guard)
			return 0;
		if (f->arp_foreign_hardware)
			return deny(d, REASON_ARP_SPOOFED);
		if (f->arp_probe)
			return may_probe(f, d->index, id, DESTINATION) ? 0 : deny(d, REASON_ARP_SPOOFED);
		return owner_behind(f, d->index, id, who, SOURCE) == id ?
			       0 : deny(d, REASON_ARP_SPOOFED);
	}
	if (!f->is_ip)
		return 0;
	if (f->neighbour)
		return guard_neighbour(f, d, id, who);
	if (is_booting(f))
		return 0;
	if (is_no_sender(source_ip(f)))
		return deny(d, REASON_ADDRESS_SPOOFED);
	owner = owner_behind(f, d->index, id, who, SOURCE);
	if (owner) {
		d->source = owner;
		return 0;
	}
	if (who->kind == KIND_ROUTER && !identity_of_address(f, d->index, 0, SOURCE))
		return deny(d, REASON_UNKNOWN_SOURCE);
	return deny(d, REASON_ADDRESS_SPOOFED);
}

int __noinline resolve_destination(struct frame *f, struct decision *d)
{
	struct identity *who;
	int by_address = 0;
	__u32 id;

	if (!f || !d)
		return -1;
	id = identity_of_mac(d->index, destination_mac(f));
	/* A group by its IP address: holder 0 lists groups too, beside what is no group. */
	if (!id && is_multicast_mac(destination_mac(f)) && f->is_ip) {
		id = identity_of_address(f, d->index, 0, DESTINATION);
		by_address = 1;
	}
	if (!id)
		return deny(d, REASON_UNKNOWN_DESTINATION);
	who = identity(d->index, id);
	if (!who || (by_address && who->kind != KIND_GROUP))
		return deny(d, REASON_UNKNOWN_DESTINATION);
	if (who->side == f->side) {
		d->destination = id;
		d->silent = 1;
		return deny(d, REASON_SAME_SIDE);
	}
	/* Answers pass by the flow, so that the receiver, too, has to live where they would be. */
	if ((who->kind == KIND_DEVICE || who->kind == KIND_ROUTER) && !vlan_permitted(who, f)) {
		d->destination = id;
		return deny(d, REASON_VLAN_NOT_PERMITTED);
	}
	if (f->is_ip && !f->neighbour && (who->kind == KIND_DEVICE || who->kind == KIND_ROUTER)) {
		/* A device that forwards could carry the frame on to another address, so the
		 * address has to be one of those that this MAC stands for. Only behind a router
		 * there may be somebody who is not known. */
		__u32 owner = owner_behind(f, d->index, id, who, DESTINATION);

		if (!owner) {
			if (who->kind != KIND_ROUTER || identity_of_address(f, d->index, 0, DESTINATION))
				d->destination = id;
			return deny(d, REASON_UNKNOWN_DESTINATION);
		}
		id = owner;
	}
	d->destination = id;
	return 0;
}

#endif
