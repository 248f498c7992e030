/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-3-Clause) */
/* The decision for a frame that no live flow answers for: identity, guard, conduit. */
#ifndef PENSTOCK_DECIDE_H
#define PENSTOCK_DECIDE_H

#include "conduit.h"

/* Link-local control traffic that is for the segment, not for a device: the IEEE 802.1 groups
 * (01:80:c2:00:00:00-0f, with LLDP, LACP, STP and peer delay; -20 for MMRP, -21 for MVRP and GVRP), MRP
 * (01:15:4e, IEC 62439-2), DLR (01:21:6c, ODVA), PTP (01:1b:19, IEEE 1588). */
static __always_inline int is_link_local(const __u8 *mac)
{
	__u32 vendor = mac[0] << 16 | mac[1] << 8 | mac[2];

	if (!is_multicast_mac(mac))
		return 0;
	switch (vendor) {
	case 0x0180c2:
		return !mac[3] && !mac[4] && (mac[5] <= 0x0f || mac[5] == 0x20 || mac[5] == 0x21);
	case 0x01154e:
	case 0x01216c:
	case 0x011b19:
		return 1;
	}
	return 0;
}

/* What is spoken on those groups: 802.3 with the bridges' LLC (spanning tree, GVRP), LLDP, slow
 * protocols (LACP, OAM), port authentication, MVRP, MMRP, MSRP, connectivity faults, EVB, MRP, DLR, redundancy
 * supervision, PTP. A device takes in what is sent to a group that it listens to, whatever it is:
 * the set request of PROFINET DCP to the group of LLDP, IP to the group of PTP. */
static __always_inline int is_link_control(struct frame *f)
{
	switch (f->ethertype) {
	case 0:
		return f->llc == LLC_BRIDGE;
	case 0x88cc:
	case 0x8809:
	case 0x888e:
	case 0x88f5:
	case 0x88f6:
	case 0x22ea:
	case 0x8902:
	case 0x8940:
	case 0x88e3:
	case 0x80e1:
	case 0x88fb:
	case 0x88f7:
		return !f->deep_tags;
	}
	return 0;
}

/* A frame whose inside the kernel's bridge hook would not see, and which therefore would
 * reach nobody's inspection: anything but Ethernet II with at most one 802.1Q tag. */
static __always_inline int inspectable(struct frame *f)
{
	return f->is_ip && f->tags <= 1 && (!f->key.tags[0] || (f->key.tags[0] & 0xf000) == TAG_8021Q);
}

static __always_inline __u32 transport_of(struct frame *f)
{
	return f->is_ip ? f->key.protocol : TRANSPORT_ETHERTYPE;
}

/* What a conduit's port range is matched with, in the direction of the conduit. Of ICMP only the reply
 * to an echo travels in reverse. */
static __always_inline __u16 service_of(struct frame *f, int reverse)
{
	if (!f->is_ip)
		return f->ethertype;
	switch (f->key.protocol) {
	case IPPROTO_TCP:
	case IPPROTO_UDP:
		return bpf_ntohs(reverse ? source_port(f) : destination_port(f));
	case IPPROTO_ICMP:
		return reverse && !f->fragment ? 8 : f->icmp_type;
	case IPPROTO_ICMPV6:
		return reverse && !f->fragment ? 128 : f->icmp_type;
	}
	return 0;
}

static __always_inline int same_zone(struct identity *from, struct identity *to)
{
	return from->zone && from->zone == to->zone;
}

static __always_inline int allow_untracked(struct decision *d)
{
	d->action = ACTION_ALLOW;
	d->reason = REASON_PERMITTED;
	d->untracked = 1;
	return 0;
}

/* Formats that carry another conversation inside, which no identity and no port here speaks for:
 * IP in IP, 6in4, GRE, ESP, authentication headers, minimal encapsulation, IPIP, EtherIP, ENCAP, compressed
 * IP, L2TPv3, MPLS in IP, Ethernet in IPv6, aggregation; TRILL, bridged Ethernet, PPP, PPPoE, MPLS, MACsec,
 * provider backbone bridges, network service headers, LLC in jumbo frames, HSR, tags that are not looked
 * through (VN-tag, E-tag, 0x9200, 0x9300), and the configuration test, whose messages say where a station
 * sends them on. So are the headers of IPv6 that parse_ipv6 did not get behind, or that stand behind a
 * fragment's: what follows them is not read. */
static __always_inline int is_tunnel(struct frame *f)
{
	if (f->is_ip) {
		switch (f->key.protocol) {
		case IPPROTO_HOPOPTS:
		case 4:
		case 41:
		case IPPROTO_ROUTING:
		case IPPROTO_FRAGMENT:
		case 47:
		case 50:
		case 51:
		case 55:
		case IPPROTO_DSTOPTS:
		case 94:
		case 97:
		case 98:
		case 108:
		case 115:
		case 135:
		case 137:
		case 139:
		case 140:
		case 143:
		case 144:
			return 1;
		}
		return 0;
	}
	switch (f->ethertype) {
	case 0x22f3:
	case 0x6558:
	case 0x880b:
	case 0x8863:
	case 0x8864:
	case 0x8847:
	case 0x8848:
	case 0x88e5:
	case 0x88e7:
	case 0x8870:
	case 0x8926:
	case 0x892f:
	case 0x893f:
	case 0x894f:
	case 0x9000:
	case 0x9200:
	case 0x9300:
		return 1;
	}
	return 0;
}

static __always_inline int is_datagram(struct frame *f)
{
	return f->is_ip && !f->fragment && f->key.protocol == IPPROTO_UDP;
}

#define ETH_P_MAC_CONTROL 0x8808
#define ND_RENUMBERING 138

/* What no zone as a whole permits: to lead a neighbour's traffic elsewhere (redirects and router
 * advertisements of ICMP, RFC 792, RFC 1256, renumbering of routers, RFC 2894) or to stop it (MAC control,
 * IEEE 802.3 31, which is for the other end of one cable), and neighbour discovery in pieces, which nobody
 * could guard (RFC 6980). */
static __always_inline int misleads(struct frame *f)
{
	if (!f->is_ip)
		return f->ethertype == ETH_P_MAC_CONTROL;
	if (f->key.protocol == IPPROTO_ICMPV6)
		return f->fragment || f->icmp_type == ND_RENUMBERING;
	return f->key.protocol == IPPROTO_ICMP && (f->fragment || f->icmp_type == 5 || f->icmp_type == 9);
}

/* A fragment between two whose conduits for the protocol are bound to ports. Whose it is cannot be
 * told, so that it is denied, unless each of them is observed. */
static __always_inline int deny_fragment(struct decision *d, __u32 observed)
{
	if (observed) {
		d->conduit = observed;
		d->observed = 1;
	}
	return deny(d, REASON_FRAGMENT);
}

/* A fragment where no conduit for the protocol is in its direction. It may belong to an answer, so that
 * what holds is what is said of the other direction, where all of that is observed. */
static __always_inline int deny_stray_fragment(struct decision *d, struct pair_key *key)
{
	struct pair_key back = {.from = key->to, .to = key->from, .transport = key->transport};
	struct coverage found = {};

	conduit_between(d->index, &back, 0, 1, &found);
	if (found.observed)
		return deny_fragment(d, found.observed);
	return deny(d, REASON_NO_CONDUIT);
}

/* Denies a datagram to a port that has to be named, where only all ports are permitted. */
static __always_inline int deny_port_unnamed(struct frame *f, struct decision *d, __u16 port)
{
	if (!is_datagram(f))
		return 0;
	if (is_tunnel_port(port))
		return deny(d, REASON_ENCAPSULATION);
	return is_lease_port(port) ? deny(d, REASON_NO_CONDUIT) : 0;
}

/* Whether a datagram is to the port of cyclic I/O. */
static __always_inline int is_io(struct frame *f)
{
	return is_datagram(f) && destination_port(f) == bpf_htons(IO_PORT);
}

/* Whether a conduit's service is that port, read forwards or in reverse. */
static __always_inline int is_io_service(struct frame *f, int reverse)
{
	return is_datagram(f) && service_of(f, reverse) == IO_PORT;
}

/* The conduit whose responder produces I/O for its initiator. Both ends of a connection send to the
 * same port, so that no conduit covers the frame in its own direction. */
static __always_inline struct conduit *io_conduit_back(struct frame *f, struct decision *d, struct identity *from,
						       struct identity *to)
{
	struct pair_key key = {.from = to->class, .to = from->class, .transport = IPPROTO_UDP};
	struct coverage found = {};
	struct conduit *c;

	conduit_between(d->index, &key, IO_PORT, 0, &found);
	if (!found.conduit)
		return NULL;
	c = conduit(d->index, found.conduit);
	if (!c || !c->io)
		return NULL;
	d->conduit = found.conduit;
	return c;
}

/* Cyclic I/O has no verdict of its own here: it passes on open connections, and this is none. */
static __always_inline int deny_io(struct decision *d, struct conduit *c, __u8 reverse)
{
	d->reverse = reverse;
	d->observed |= c->observe;
	d->opens = c->opens;
	d->io_joins = c->io_joins;
	d->limited = c->limited;
	return deny(d, REASON_IO_NOT_OPEN);
}

/* Permits d if a conduit covers the frame, read forwards or in reverse. Only a whole-range
 * conduit covers a fragment, which has no ports to show. Where none does, two identities of
 * one zone may be let through all the same, with what is theirs: no tunnel. */
int __noinline permit_by_conduit(struct frame *f, struct decision *d, __u8 reverse)
{
	struct identity *from, *to;
	struct pair_key key = {};
	struct coverage found = {};
	struct conduit *c;
	int zone_wide;

	if (!f || !d)
		return -1;
	from = identity(d->index, reverse ? d->destination : d->source);
	to = identity(d->index, reverse ? d->source : d->destination);
	if (!from || !to)
		return deny(d, REASON_NO_CONDUIT);
	key.transport = transport_of(f);
	key.from = from->class;
	key.to = to->class;
	conduit_between(d->index, &key, service_of(f, reverse), f->fragment, &found);
	if (!found.conduit && f->fragment && found.paired)
		return deny_fragment(d, found.observed);
	if (!found.conduit && !reverse && is_io(f)) {
		c = io_conduit_back(f, d, from, to);
		if (c)
			return deny_io(d, c, 1);
	}
	zone_wide = !found.conduit && d->intra_zone == ACTION_ALLOW && same_zone(from, to);
	if (!found.conduit && is_tunnel(f))
		return deny(d, REASON_ENCAPSULATION);
	c = conduit(d->index, found.conduit);
	if ((zone_wide || found.whole || (c && c->wide)) && deny_port_unnamed(f, d, service_of(f, reverse)))
		return -1;
	if (zone_wide && misleads(f))
		return deny(d, f->fragment ? REASON_FRAGMENT : REASON_NO_CONDUIT);
	if (zone_wide)
		return allow_untracked(d);
	if (!found.conduit && f->fragment && !reverse)
		return deny_stray_fragment(d, &key);
	if (!found.conduit || !c)
		return deny(d, REASON_NO_CONDUIT);
	d->conduit = found.conduit;
	if (c->io && is_io_service(f, reverse))
		return deny_io(d, c, reverse);
	d->whole = found.whole;
	d->reverse = reverse;
	d->observed |= c->observe;
	d->opens = c->opens;
	d->limited = c->limited;
	if (c->action == ACTION_INSPECT) {
		if (f->fragment)
			return deny(d, REASON_FRAGMENT);
		if (!inspectable(f))
			return deny(d, REASON_ENCAPSULATION);
	}
	d->action = c->action;
	d->reason = REASON_PERMITTED;
	return 0;
}

/* Who sends and who receives, with what the policy says of strangers: permitted or not, they
 * are told of. Returns 1 when that settles the frame. */
int __noinline resolve(struct frame *f, struct decision *d, struct policy_defaults *defaults)
{
	if (!f || !d || !defaults)
		return 1;
	if (resolve_source(f, d) < 0 ||
	    (!is_neighbour_group(f) && resolve_destination(f, d) < 0)) {
		/* To the MAC address of somebody known it has to be with an address of theirs. */
		if (defaults->unknown_identity == ACTION_ALLOW && !d->destination &&
		    (d->reason == REASON_UNKNOWN_SOURCE || d->reason == REASON_UNKNOWN_DESTINATION)) {
			d->action = ACTION_ALLOW;
			d->untracked = 1;
			d->announce = 1;
		}
		return 1;
	}
	if (f->deep_tags || f->source_routed || f->llc == LLC_SNAP) {
		deny(d, REASON_ENCAPSULATION);
		return 1;
	}
	if (f->is_arp || f->neighbour) {
		allow_untracked(d);
		return 1;
	}
	return 0;
}

static __always_inline int is_opening_syn(struct frame *f)
{
	return f->key.protocol == IPPROTO_TCP && (f->tcp_flags & (TCP_SYN | TCP_ACK)) == TCP_SYN;
}

/* Against the conduit's direction, only TCP that is under way may be adopted, from the
 * conduit's port, and only for a while after a start: a connection that was there before us. */
static __always_inline int may_adopt_reverse(struct frame *f, struct control_block *control)
{
	return f->is_ip && !f->fragment && f->key.protocol == IPPROTO_TCP &&
	       (f->tcp_flags & TCP_ACK) && !(f->tcp_flags & TCP_SYN) &&
	       bpf_ktime_get_coarse_ns() < control->adopt_until;
}

#endif
