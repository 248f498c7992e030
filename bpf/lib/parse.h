/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-3-Clause) */
/* From bytes to the fields that decide. Nothing is read before its length was checked, and a
 * frame that ends early is malformed, never a guess. */
#ifndef PENSTOCK_PARSE_H
#define PENSTOCK_PARSE_H

#include "../maps.h"

#define ETH_P_IP_	0x0800
#define ETH_P_ARP_	0x0806
#define ETH_P_IPV6_	0x86dd
#define ETH_P_8021Q_	0x8100
#define ETH_P_8021AD_	0x88a8
#define ETH_P_QINQ1_	0x9100
#define ETH_P_802_3_MIN_ 0x0600

#define TCP_FIN 0x01
#define TCP_SYN 0x02
#define TCP_RST 0x04
#define TCP_ACK 0x10

#define EXTENSION_HEADERS_MAX 8

#define FRAME_MAX 65535 /* a longer one is none, and would not be measured in 16 bits */

/* Where in the flow table a key is, or belongs. */
struct place {
	__u64 print; /* of the key */
	__u32 home;
	__u32 second;
	__u32 at;
	__u32 version; /* that the entry had; 0: the key is nowhere */
};

struct frame {
	__u64 now; /* by jiffies, ns: one load, where each other clock is a call */
	struct flow_key key; /* complete for IP with ports; else MACs and tags */
	struct flow_key about; /* of an ICMP error: the conversation that it is about; of neighbour
				* discovery: the target, as ip_a */
	__u16 length;
	__u16 trailer; /* bytes behind the IP packet: padding, or a trailer of the link */
	__u16 network; /* offset of what follows the Ethernet header and its tags */
	__u16 ethertype; /* host byte order; 0 for 802.3 with LLC */
	__u8 side;
	__u8 tags;
	__u8 is_ip;
	__u8 is_arp;
	__u8 fragment;
	__u8 tcp_flags;
	__u8 icmp_type;
	__u8 icmp_error; /* about is filled in */
	__u8 deep_tags; /* more than two tags */
	__u8 hop_limit; /* of IPv6 */
	__u8 neighbour; /* type of a neighbour discovery message */
	__u8 arp_probe;
	__u8 arp_foreign_hardware; /* the sender in the body is not the sender of the frame */
	__u8 options; /* bytes of IPv4 options */
	__u8 source_routed; /* goes on to other addresses than the one it shows: by a source route, or as
			     * the beginning of a datagram that no conduit for every port means */
	__u8 llc; /* of an 802.3 frame */
	__u8 initiator; /* side that began the flow that was found */
	struct place place; /* of key */
};

/* What an 802.3 frame carries (IEEE 802.2). */
enum llc {
	LLC_OTHER,
	LLC_BRIDGE, /* bridge spanning tree protocol, GVRP and GMRP: 0x42 on both ends */
	LLC_SNAP,   /* another format inside: an EtherType after all (RFC 1042, IEEE 802.1H), a frame of
		     * another kind of network (RFC 2684 5.3), or IP by its own access point */
};

/* A place in the frame. Fails by returning NULL, after which nothing more may be read. */
struct cursor {
	void *at;
	void *end;
};

static __always_inline void *take(struct cursor *c, __u32 n)
{
	void *here = c->at;

	if (here + n > c->end)
		return NULL;
	c->at = here + n;
	return here;
}

/* Six bytes as a word and a half: byte by byte, as the compiler would have it, the hash of the
 * flow table waits for six stores where it reads two. */
static __always_inline void copy_mac(__u8 *to, const __u8 *from)
{
	*(__u32 *)to = *(const __u32 *)from;
	*(__u16 *)(to + 4) = *(const __u16 *)(from + 4);
}

static __always_inline void map_ipv4(__u8 to[16], const void *from)
{
	__u32 *words = (__u32 *)to;

	words[0] = 0;
	words[1] = 0;
	words[2] = bpf_htonl(0xffff);
	__builtin_memcpy(&words[3], from, 4);
}

/* The ends of a key by geometry: what side a sends is from a to b. */
static __always_inline __u8 *source_ip(struct frame *f)
{
	return f->side == SIDE_A ? f->key.ip_a : f->key.ip_b;
}

static __always_inline __u8 *destination_ip(struct frame *f)
{
	return f->side == SIDE_A ? f->key.ip_b : f->key.ip_a;
}

static __always_inline __u8 *source_mac(struct frame *f)
{
	return f->side == SIDE_A ? f->key.mac_a : f->key.mac_b;
}

static __always_inline __u8 *destination_mac(struct frame *f)
{
	return f->side == SIDE_A ? f->key.mac_b : f->key.mac_a;
}

static __always_inline void set_ports(struct frame *f, __be16 source, __be16 destination)
{
	if (f->side == SIDE_A) {
		f->key.port_a = source;
		f->key.port_b = destination;
	} else {
		f->key.port_b = source;
		f->key.port_a = destination;
	}
}

static __always_inline __be16 source_port(struct frame *f)
{
	return f->side == SIDE_A ? f->key.port_a : f->key.port_b;
}

static __always_inline __be16 destination_port(struct frame *f)
{
	return f->side == SIDE_A ? f->key.port_b : f->key.port_a;
}

static __always_inline __u16 tag_kind(__u16 ethertype)
{
	switch (ethertype) {
	case ETH_P_8021Q_:
		return TAG_8021Q;
	case ETH_P_8021AD_:
		return TAG_8021AD;
	case ETH_P_QINQ1_:
		return TAG_9100;
	}
	return 0;
}

/* The organisations whose SNAP carries other formats: of EtherTypes, as bridges translate those, and
 * of frames that are bridged. */
static __always_inline int is_snap_of_formats(const __u8 *organisation)
{
	__u32 number = organisation[0] << 16 | organisation[1] << 8 | organisation[2];

	return number == 0 || number == 0x0000f8 || number == 0x0080c2;
}

/* Reads the beginning of an 802.3 frame's body, of length bytes. What permits is read strictly. What
 * denies asks for no more than receivers do: some look at the destination's access point alone, and
 * take what is behind the length, too. */
static __always_inline __u8 llc_of(struct cursor *c, __u16 length)
{
	const __u8 *b = c->at;

	if (c->at + 3 > c->end)
		return LLC_OTHER;
	if (length >= 3 && b[0] == 0x42 && b[1] == 0x42 && b[2] == 0x03)
		return LLC_BRIDGE;
	if ((b[0] & 0xfe) == 0x06)
		return LLC_SNAP;
	if ((b[0] & 0xfe) != 0xaa || c->at + 6 > c->end)
		return LLC_OTHER;
	return is_snap_of_formats(b + 3) ? LLC_SNAP : LLC_OTHER;
}

/* A single priority tag is no VLAN (IEEE 802.1Q 6.9): what receivers take for one conversation,
 * tagged or not, is one here, or its halves would be read as two. */
static __always_inline void drop_priority_tag(struct frame *f)
{
	if (f->tags == 1 && f->key.tags[0] == TAG_8021Q)
		f->key.tags[0] = 0;
}

/* Reads the Ethernet header and at most two tags; a third sets deep_tags, and its frame is
 * never looked into. */
static __always_inline int parse_ethernet(struct cursor *c, struct frame *f)
{
	struct ethhdr *eth = take(c, sizeof(*eth));
	__u16 kind;

	if (!eth)
		return -1;
	copy_mac(f->side == SIDE_A ? f->key.mac_a : f->key.mac_b, eth->h_source);
	copy_mac(f->side == SIDE_A ? f->key.mac_b : f->key.mac_a, eth->h_dest);
	f->ethertype = bpf_ntohs(eth->h_proto);

#pragma unroll
	for (int i = 0; i < 2; i++) {
		__be16 *tag;

		kind = tag_kind(f->ethertype);
		if (!kind)
			break;
		tag = take(c, 4);
		if (!tag)
			return -1;
		f->key.tags[i] = kind | (bpf_ntohs(tag[0]) & 0x0fff);
		f->ethertype = bpf_ntohs(tag[1]);
		f->tags = i + 1;
	}
	f->deep_tags = tag_kind(f->ethertype) != 0;
	drop_priority_tag(f);
	if (f->ethertype < ETH_P_802_3_MIN_) {
		/* IEEE 802.3 3.2.6: not a type but the length of what follows. */
		if (c->at + f->ethertype > c->end)
			return -1;
		f->llc = llc_of(c, f->ethertype);
		f->ethertype = 0;
	}
	return 0;
}

/* The first eight bytes of ICMP and ICMPv6, as an echo has them (RFC 792, RFC 4443 4.1). */
struct icmp_echo {
	__u8 type;
	__u8 code;
	__be16 checksum;
	__be16 identifier;
	__be16 sequence;
};

static __always_inline int same_ip(const __u8 *a, const __u8 *b)
{
	const __u32 *v = (const __u32 *)a, *w = (const __u32 *)b;

	return !((v[0] ^ w[0]) | (v[1] ^ w[1]) | (v[2] ^ w[2]) | (v[3] ^ w[3]));
}

/* The beginning of the packet that an ICMP error answers: its addresses, and where it is no
 * later fragment its ports, from the view of who sent it. That is the receiver of the error
 * (RFC 792, RFC 4443 2.4), and returned is whether it is: behind a router's MAC address others
 * live, too. */
static __always_inline int set_about(struct frame *f, const void *source, const void *destination,
				     int ipv6)
{
	__u8 *from = f->side == SIDE_A ? f->about.ip_b : f->about.ip_a;
	__u8 *to = f->side == SIDE_A ? f->about.ip_a : f->about.ip_b;

	__builtin_memcpy(f->about.mac_a, f->key.mac_a, 6);
	__builtin_memcpy(f->about.mac_b, f->key.mac_b, 6);
	f->about.tags[0] = f->key.tags[0];
	f->about.tags[1] = f->key.tags[1];
	if (ipv6) {
		__builtin_memcpy(from, source, 16);
		__builtin_memcpy(to, destination, 16);
	} else {
		map_ipv4(from, source);
		map_ipv4(to, destination);
	}
	return same_ip(from, destination_ip(f));
}

static __always_inline void set_about_ports(struct cursor *c, struct frame *f)
{
	__be16 *ports;

	switch (f->about.protocol) {
	case IPPROTO_TCP:
	case IPPROTO_UDP:
		ports = take(c, 8); /* what RFC 792 promises */
		if (!ports)
			return;
		f->about.port_a = f->side == SIDE_A ? ports[1] : ports[0];
		f->about.port_b = f->side == SIDE_A ? ports[0] : ports[1];
		break;
	case IPPROTO_ICMP:
	case IPPROTO_ICMPV6:
		ports = take(c, 8);
		if (!ports)
			return;
		f->about.port_a = f->about.port_b = ports[2];
		break;
	default:
		return;
	}
	f->icmp_error = 1;
}

#define IPV4_LEAST_MTU 552 /* below it no stack follows (Linux's min_pmtu), and an attacker asks */
#define IPV6_LEAST_MTU 1280 /* RFC 8200, 5 */

/* ICMP errors (RFC 792): unreachable, time exceeded, parameter problem. An error that asks for
 * absurdly small packets is malformed: it slows a conversation down until it stands. */
static __always_inline int parse_error_v4(struct cursor *c, struct frame *f, __u8 code, __u16 mtu)
{
	struct iphdr *ip;

	if (f->icmp_type != 3 && f->icmp_type != 11 && f->icmp_type != 12)
		return 0;
	if (f->icmp_type == 3 && code == 4 && mtu && mtu < IPV4_LEAST_MTU)
		return -1;
	ip = take(c, sizeof(*ip));
	if (!ip || ip->version != 4 || ip->ihl < 5)
		return 0; /* quotes nothing that could be ours */
	if (!set_about(f, &ip->saddr, &ip->daddr, 0))
		return 0;
	f->about.protocol = ip->protocol;
	if (ip->ihl > 5 && !take(c, (ip->ihl - 5) * 4))
		return 0;
	if (!(ip->frag_off & bpf_htons(0x1fff)))
		set_about_ports(c, f);
	return 0;
}

/* RFC 4443: unreachable, packet too big, time exceeded, parameter problem. */
static __always_inline int parse_error_v6(struct cursor *c, struct frame *f, __u32 mtu)
{
	struct ipv6hdr *ip;

	if (f->icmp_type < 1 || f->icmp_type > 4)
		return 0;
	if (f->icmp_type == 2 && mtu < IPV6_LEAST_MTU)
		return -1;
	ip = take(c, sizeof(*ip));
	if (!ip || ip->version != 6)
		return 0;
	if (!set_about(f, &ip->saddr, &ip->daddr, 1))
		return 0;
	f->about.protocol = ip->nexthdr;
	set_about_ports(c, f);
	return 0;
}

#define ND_ROUTER_SOLICITATION	  133
#define ND_ROUTER_ADVERTISEMENT	  134
#define ND_NEIGHBOUR_SOLICITATION  135
#define ND_NEIGHBOUR_ADVERTISEMENT 136
#define ND_REDIRECT		  137
#define ND_OPTIONS_MAX		  8

static __always_inline __u32 mac_difference(const __u8 *a, const __u8 *b)
{
	__u32 difference = 0;

#pragma unroll
	for (int i = 0; i < 6; i++)
		difference |= a[i] ^ b[i];
	return difference;
}

/* Neighbour discovery (RFC 4861 4): the target, and whether a link-layer address option (1 of
 * the source, 2 of the target) names another than the sender. Off the link it is a forgery
 * (7.1: hop limit 255). Options beyond the bound make it malformed: they could claim unseen. room
 * is what the IP packet holds behind the first eight bytes. */
static __always_inline int parse_neighbour(struct cursor *c, struct frame *f, __u8 code, __u32 room)
{
	__u32 fixed = 16;
	__u8 *part;

	if (f->icmp_type < ND_ROUTER_SOLICITATION || f->icmp_type > ND_REDIRECT)
		return 0;
	if (f->hop_limit != 255 || code)
		return -1;
	if (f->icmp_type == ND_NEIGHBOUR_SOLICITATION || f->icmp_type == ND_NEIGHBOUR_ADVERTISEMENT) {
		part = take(c, 16);
		if (!part)
			return -1;
		__builtin_memcpy(f->about.ip_a, part, 16);
	} else {
		fixed = f->icmp_type == ND_ROUTER_ADVERTISEMENT ? 8 :
			f->icmp_type == ND_REDIRECT		? 32 : 0;
		if (!take(c, fixed))
			return -1;
	}
	if (room < fixed)
		return -1;
	room -= fixed;
	f->neighbour = f->icmp_type;
#pragma unroll
	for (int i = 0; i < ND_OPTIONS_MAX; i++) {
		if (room < 8)
			return 0;
		part = c->at;
		if (c->at + 8 > c->end || part[1] == 0 || part[1] * 8 > room)
			return -1; /* RFC 4861 4.6 */
		if ((part[0] == 1 || part[0] == 2) && mac_difference(part + 2, source_mac(f)))
			f->arp_foreign_hardware = 1;
		room -= part[1] * 8;
		if (!take(c, part[1] * 8))
			return -1;
	}
	return room < 8 ? 0 : -1;
}

/* Ports that a conduit for every port does not mean, and one that names them does: of formats over UDP
 * that carry another conversation inside (LISP, NAT traversal of ESP, GRE, VXLAN, and as Linux first had
 * it, its generic extension, Geneve, generic encapsulation, MPLS, L2TP, Teredo, GTP-U, OpenVPN,
 * WireGuard). */
static __always_inline int is_tunnel_port(__u16 port)
{
	switch (port) {
	case 1194:
	case 1701:
	case 2152:
	case 3544:
	case 4341:
	case 4500:
	case 4754:
	case 4755:
	case 4789:
	case 4790:
	case 6080:
	case 6081:
	case 6635:
	case 8472:
	case 51820:
		return 1;
	}
	return 0;
}

/* And of those that configure hosts: DHCP and DHCPv6 clients take a lease from whoever offers one. */
static __always_inline int is_lease_port(__u16 port)
{
	return port == 68 || port == 546;
}

/* Whether a fragment lies in what a packet can hold. One that does not is a way to overrun who puts it
 * together. */
static __always_inline int ends_in_packet(__u32 at, __u32 length)
{
	return at + length <= 0xffff ? 0 : -1;
}

/* The first fragment of a datagram, which shows the ports. Nothing is permitted by them, but what
 * would be denied whole is denied in pieces, too: no receiver assembles the rest. */
static __always_inline int parse_first_fragment(struct cursor *c, struct frame *f, __u32 room)
{
	struct udphdr *udp;
	__u16 port;

	if (f->key.protocol != IPPROTO_UDP || room < sizeof(*udp))
		return 0;
	udp = take(c, sizeof(*udp));
	if (!udp)
		return -1;
	port = bpf_ntohs(udp->dest);
	f->source_routed |= is_tunnel_port(port) || is_lease_port(port);
	return 0;
}

/* room is what the IP packet holds from here on: what lies behind it in the frame is padding,
 * which the receiver's stack never reads. */
static __always_inline int parse_ports(struct cursor *c, struct frame *f, __u32 room)
{
	struct tcphdr *tcp;
	struct udphdr *udp;
	struct icmp_echo *icmp;

	switch (f->key.protocol) {
	case IPPROTO_TCP:
		tcp = take(c, sizeof(*tcp));
		if (!tcp || tcp->doff < 5 || tcp->doff * 4 > room)
			return -1;
		set_ports(f, tcp->source, tcp->dest);
		f->tcp_flags = ((__u8 *)tcp)[13];
		return 0;
	case IPPROTO_UDP:
		udp = take(c, sizeof(*udp));
		if (!udp || bpf_ntohs(udp->len) < sizeof(*udp) || bpf_ntohs(udp->len) > room)
			return -1;
		set_ports(f, udp->source, udp->dest);
		return 0;
	case IPPROTO_ICMP:
	case IPPROTO_ICMPV6:
		icmp = take(c, sizeof(*icmp));
		if (!icmp || sizeof(*icmp) > room)
			return -1;
		f->icmp_type = icmp->type;
		/* The identifier stands for both ports, so that a reply finds its request. */
		set_ports(f, icmp->identifier, icmp->identifier);
	}
	return 0;
}

#define TRANSPORT_MAX 2048 /* offset of the transport header: 38 + 8 extension headers, and more */

/* What ICMP says beyond its header: an error quotes a packet, neighbour discovery claims
 * addresses. By itself, because few frames need it. */
int __noinline parse_icmp(struct xdp_md *ctx, struct frame *f, __u32 transport)
{
	void *data = (void *)(long)ctx->data;
	struct cursor c = {.end = (void *)(long)ctx->data_end};
	struct icmp_echo *icmp;

	if (!f || transport > TRANSPORT_MAX)
		return -1;
	/* ICMP in IPv6, or the other way round, speaks for no conversation: no receiver takes it. */
	if ((f->key.protocol == IPPROTO_ICMPV6) != (f->hop_limit != 0))
		return 0;
	c.at = data + transport;
	icmp = take(&c, sizeof(*icmp));
	if (!icmp)
		return -1;
	if (f->key.protocol == IPPROTO_ICMP)
		return parse_error_v4(&c, f, icmp->code, bpf_ntohs(icmp->sequence));
	if (parse_neighbour(&c, f, icmp->code, f->length - f->trailer - transport - sizeof(*icmp)) < 0)
		return -1;
	return parse_error_v6(&c, f, (__u32)bpf_ntohs(icmp->identifier) << 16 | bpf_ntohs(icmp->sequence));
}

static __always_inline int is_icmp(struct frame *f)
{
	return f->is_ip && !f->fragment &&
	       (f->key.protocol == IPPROTO_ICMP || f->key.protocol == IPPROTO_ICMPV6);
}

#define IPV4_OPTIONS_MAX 40
#define IPV4_END	 0
#define IPV4_NOP	 1
#define IPV4_LOOSE_ROUTE 131
#define IPV4_STRICT_ROUTE 137

struct options {
	__u8 bytes[IPV4_OPTIONS_MAX + 4]; /* the length of an option that ends there is 0 */
	__u32 length;
	__u32 at;
	__u32 source_route;
};

/* Steps over one option. Returns 1 while there is another, -1 for one that is longer than its
 * header. */
int __noinline next_option(struct options *o)
{
	__u32 at, length;

	if (!o)
		return -1;
	at = o->at;
	if (at >= o->length || at >= IPV4_OPTIONS_MAX || o->bytes[at] == IPV4_END)
		return 0;
	if (o->bytes[at] == IPV4_NOP) {
		o->at++;
		return 1;
	}
	length = o->bytes[at + 1];
	if (length < 2 || at + length > o->length)
		return -1;
	if (o->bytes[at] == IPV4_LOOSE_ROUTE || o->bytes[at] == IPV4_STRICT_ROUTE)
		o->source_route = 1;
	o->at += length;
	return 1;
}

/* Looks through the options of an IPv4 header for a source route (RFC 791 3.1, RFC 7126 4.3): a
 * packet that names further addresses is carried on by the device that it is let through to. */
int __noinline parse_options(struct xdp_md *ctx, struct frame *f)
{
	struct options o = {};
	int more = 1;

	if (!f)
		return -1;
	o.length = f->options;
	barrier_var(o.length); /* or both bounds are checked at once, unseen by the verifier */
	if (o.length < 1)
		return 0;
	barrier_var(o.length);
	if (o.length > IPV4_OPTIONS_MAX ||
	    bpf_xdp_load_bytes(ctx, f->network + sizeof(struct iphdr), o.bytes, o.length))
		return -1;
	for (int i = 0; i <= IPV4_OPTIONS_MAX && more > 0; i++)
		more = next_option(&o);
	f->source_routed |= o.source_route != 0;
	return more;
}

/* Whether the frame holds an IP packet of that length. Of a frame with several buffers only the
 * first has been measured until here: it costs a call to know of the others. */
static __always_inline int holds(struct xdp_md *ctx, struct frame *f, __u32 total)
{
	__u32 length;

	if (total > f->length - f->network) {
		length = bpf_xdp_get_buff_len(ctx);
		f->length = length <= FRAME_MAX ? length : FRAME_MAX;
	}
	return total <= f->length - f->network;
}

static __always_inline int parse_ipv4(struct xdp_md *ctx, struct cursor *c, struct frame *f)
{
	struct iphdr *ip = take(c, sizeof(*ip));
	__u32 total, options, fragment_at;

	if (!ip || ip->version != 4 || ip->ihl < 5)
		return -1;
	total = bpf_ntohs(ip->tot_len);
	options = (ip->ihl - 5) * 4;
	if (total < sizeof(*ip) + options || !holds(ctx, f, total))
		return -1;
	f->trailer = f->length - f->network - total;
	map_ipv4(f->side == SIDE_A ? f->key.ip_a : f->key.ip_b, &ip->saddr);
	map_ipv4(f->side == SIDE_A ? f->key.ip_b : f->key.ip_a, &ip->daddr);
	f->key.protocol = ip->protocol;
	f->is_ip = 1;
	f->options = options;
	f->fragment = f->key.fragment = (ip->frag_off & bpf_htons(0x3fff)) != 0;
	fragment_at = (bpf_ntohs(ip->frag_off) & 0x1fff) * 8;
	if (fragment_at)
		return ends_in_packet(fragment_at, total - sizeof(*ip) - options);
	if (options && !take(c, options))
		return -1;
	if (f->fragment)
		return parse_first_fragment(c, f, total - sizeof(*ip) - options);
	return parse_ports(c, f, total - sizeof(*ip) - options);
}

/* ::ffff:0:0/96. On the wire it would be an IPv4 address that no guard of IPv4 has seen
 * (RFC 4942 2.2), and here it would be the key of an IPv4 flow. */
static __always_inline int is_mapped(const struct in6_addr *a)
{
	return !(a->in6_u.u6_addr32[0] | a->in6_u.u6_addr32[1]) &&
	       a->in6_u.u6_addr32[2] == bpf_htonl(0xffff);
}

static __always_inline int parse_ipv6(struct xdp_md *ctx, struct cursor *c, struct frame *f)
{
	struct ipv6hdr *ip = take(c, sizeof(*ip));
	__u32 room, fragment_at;
	__u8 next;

	if (!ip || ip->version != 6 || is_mapped(&ip->saddr) || is_mapped(&ip->daddr))
		return -1;
	room = bpf_ntohs(ip->payload_len);
	if (!holds(ctx, f, room + sizeof(*ip)))
		return -1;
	f->trailer = f->length - f->network - sizeof(*ip) - room;
	__builtin_memcpy(f->side == SIDE_A ? f->key.ip_a : f->key.ip_b, &ip->saddr, 16);
	__builtin_memcpy(f->side == SIDE_A ? f->key.ip_b : f->key.ip_a, &ip->daddr, 16);
	f->is_ip = 1;
	f->hop_limit = ip->hop_limit ? ip->hop_limit : 1;
	next = ip->nexthdr;

	/* Hop-by-hop, routing, destination options and fragment headers are walked; a chain
	 * that is longer than the bound keeps its last header's number, which no conduit
	 * names, and which is a tunnel to a zone that permits itself, so that it is denied. */
#pragma unroll
	for (int i = 0; i < EXTENSION_HEADERS_MAX; i++) {
		__u8 *header;

		if (next == IPPROTO_FRAGMENT) {
			header = take(c, 8);
			if (!header || room < 8)
				return -1;
			f->fragment = f->key.fragment = 1;
			f->key.protocol = header[0];
			fragment_at = (header[2] << 8 | header[3]) & 0xfff8;
			if (fragment_at)
				return ends_in_packet(fragment_at, room - 8);
			return parse_first_fragment(c, f, room - 8);
		}
		if (next != IPPROTO_HOPOPTS && next != IPPROTO_ROUTING && next != IPPROTO_DSTOPTS)
			break;
		header = take(c, 8);
		if (!header || room < 8 + header[1] * 8)
			return -1;
		room -= 8 + header[1] * 8;
		/* RFC 8200 4.4: with segments left it shows one address and means another. */
		if (next == IPPROTO_ROUTING && header[3])
			f->source_routed = 1;
		next = header[0];
		if (!take(c, header[1] * 8))
			return -1;
	}
	f->key.protocol = next;
	return parse_ports(c, f, room);
}

struct arp_body {
	__be16 hardware;
	__be16 protocol;
	__u8 hardware_length;
	__u8 protocol_length;
	__be16 operation;
	__u8 sender_mac[6];
	__u8 sender_ip[4];
	__u8 target_mac[6];
	__u8 target_ip[4];
} __attribute__((packed));

/* ARP (RFC 826). The addresses land where those of an IP frame would, so that the guard and
 * the events read them in one way. */
static __always_inline int parse_arp(struct cursor *c, struct frame *f)
{
	struct arp_body *arp = take(c, sizeof(*arp));
	if (!arp || arp->hardware != bpf_htons(1) || arp->protocol != bpf_htons(ETH_P_IP_) ||
	    arp->hardware_length != 6 || arp->protocol_length != 4)
		return -1;
	map_ipv4(source_ip(f), arp->sender_ip);
	map_ipv4(destination_ip(f), arp->target_ip);
	f->is_arp = 1;
	f->arp_foreign_hardware = mac_difference(arp->sender_mac, source_mac(f)) != 0;
	f->arp_probe = (arp->sender_ip[0] | arp->sender_ip[1] | arp->sender_ip[2] | arp->sender_ip[3]) == 0;
	return 0;
}

/* Fills f from the frame. Returns -1 for one that ends early or contradicts itself; f then
 * holds what was read up to there, which is what its event shows.
 *
 * Like every function here that is not static, it is verified by itself and not once more for
 * each way that leads to it: that keeps the program small in the verifier's eyes. */
int __noinline parse_frame(struct xdp_md *ctx, struct frame *f)
{
	void *data = (void *)(long)ctx->data;
	struct cursor c = {.at = data, .end = (void *)(long)ctx->data_end};
	int failed = 0;

	if (!f)
		return -1;
	if (parse_ethernet(&c, f) < 0)
		return -1;
	f->network = c.at - data;
	if (f->deep_tags)
		return 0;
	switch (f->ethertype) {
	case ETH_P_IP_:
		failed = parse_ipv4(ctx, &c, f);
		break;
	case ETH_P_IPV6_:
		failed = parse_ipv6(ctx, &c, f);
		break;
	case ETH_P_ARP_:
		return parse_arp(&c, f);
	}
	if (!failed && f->options)
		failed = parse_options(ctx, f);
	if (failed || !is_icmp(f))
		return failed;
	return parse_icmp(ctx, f, c.at - data - sizeof(struct icmp_echo));
}

#endif
