/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-3-Clause) */
/* What the fast path and user space exchange. Every structure and number here is written once:
 * bpf2go emits the Go side, and a test compares the enumerations with package verdict.
 *
 * Whatever changes the meaning of a pinned map or of the metadata raises LAYOUT_VERSION. A build of another
 * layout reads some of the structures by the names of their fields (internal/datapath/predecessor.go says
 * which): one whose meaning changes gets another name, too. */
#ifndef PENSTOCK_TYPES_H
#define PENSTOCK_TYPES_H

#define LAYOUT_VERSION 3

enum penstock_action {
	ACTION_UNDECIDED,
	ACTION_DENY,
	ACTION_ALLOW,
	ACTION_INSPECT,
};

/* The same list, in the same order, as internal/verdict/reason.go. Append only. */
enum penstock_reason {
	REASON_NONE,
	REASON_PERMITTED,
	REASON_NO_CONDUIT,
	REASON_UNKNOWN_SOURCE,
	REASON_UNKNOWN_DESTINATION,
	REASON_ADDRESS_SPOOFED,
	REASON_WRONG_PORT,
	REASON_ARP_SPOOFED,
	REASON_FUNCTION_NOT_PERMITTED,
	REASON_ADDRESS_NOT_PERMITTED,
	REASON_VALUE_NOT_PERMITTED,
	REASON_UNIT_NOT_PERMITTED,
	REASON_OBJECT_NOT_PERMITTED,
	REASON_POINT_NOT_PERMITTED,
	REASON_SERVICE_NOT_PERMITTED,
	REASON_PATH_NOT_PERMITTED,
	REASON_TAG_NOT_PERMITTED,
	REASON_ROUTE_NOT_PERMITTED,
	REASON_UNSOLICITED_REPLY,
	REASON_MALFORMED,
	REASON_STREAM_GAP,
	REASON_STREAM_OVERLAP,
	REASON_FRAGMENT,
	REASON_RATE_EXCEEDED,
	REASON_TCP_OPTION,
	REASON_TCP_STATE,
	REASON_ENCAPSULATION,
	REASON_VLAN_NOT_PERMITTED,
	REASON_QUEUE_FULL,
	REASON_TABLE_FULL,
	REASON_OUTAGE_CLOSED,
	REASON_OUTAGE_OPEN,
	REASON_BAD_CHECKSUM,
	REASON_NO_VERDICT,
	REASON_SAME_SIDE,
	REASON_LINK_LOCAL,
	REASON_UNINSPECTABLE,
	REASON_RESYNCHRONISING,
	REASON_NOT_TCP,
	REASON_CONNECTION_ENDED,
	REASON_IO_NOT_OPEN,
	REASON_IO_SIZE,
	REASON_IO_SEQUENCE,
	REASON_COUNT,
};

enum penstock_side {
	SIDE_ANY,
	SIDE_A,
	SIDE_B,
};

enum penstock_kind {
	KIND_DEVICE,
	KIND_ROUTER,
	KIND_BEHIND,
	KIND_BROADCAST,
	KIND_GROUP,
};

/* The mark of a frame that the fast path hands to the slow path, and of what comes back:
 *
 *   31..28 kind   27 side (0 a, 1 b)   26 queue (1 opens in an outage)
 *   25..18 generation of the slot      17..0 flow slot, whose low bits are the lane
 *
 * A verdict says in 27 and 26 what a TCP conversation has come to. */
#define MARK_KIND_MASK	  0xf0000000u
#define MARK_INSPECT	  0x50000000u /* waits for a verdict */
#define MARK_PERMITTED	  0x60000000u /* the slow path's verdict: may leave */
#define MARK_OWN	  0x70000000u /* a frame of ours, such as a reset */
#define MARK_SIDE_B	  0x08000000u
#define MARK_QUEUE_OPENS  0x04000000u
#define MARK_TCP_MASK	  0x0c000000u
#define MARK_OPENS	  0x04000000u /* its SYN: what is noted of the one before is over */
#define MARK_CLOSED	  0x08000000u /* by both ends */
#define MARK_RESETS	  0x0c000000u
#define MARK_SLOT_MASK	  0x0003ffffu
#define MARK_KEY_MASK	  0x03ffffffu /* slot and its generation: one inspected flow */
#define MARK_SLOT_GEN_ONE 0x00040000u
#define MARK_SLOT_GEN_MASK 0x03fc0000u

/* Inspected flows are spread over lanes, one for each core that judges. A flow's lane is its slot
 * modulo their number, a power of two, so that both directions are judged in one loop and stay in
 * order there. A lane has two queues, of conduits that close and that open in an outage: queue
 * 2 * lane + opens. */
#define MAX_LANES  16
#define MAX_QUEUES (2 * MAX_LANES)

/* Metadata in front of a frame, from XDP to the tcx marker. The magic carries the layout, so
 * metadata of another program or of another version is never a pass. */
#define METADATA_MAGIC (0x50656e00u + LAYOUT_VERSION)

struct metadata {
	__u32 magic;
	__u32 mark;
};

/* All that stands in front of a frame, which follows at once. The marker reads where it is told that the
 * metadata begins. Generic XDP since Linux 6.9 hands on copies of frames that do not say how long their
 * Ethernet header is: the marker is then told of a place that lies as far behind. So the metadata stands at
 * both, and at either place what the marker reads was written by XDP and is no byte of the frame. A multiple
 * of four and at most 32 bytes, as the kernel demands. */
struct front {
	struct metadata metadata;
	__u8 unused[ETH_HLEN - sizeof(struct metadata)];
	struct metadata again;
	__u8 end[2];
} __attribute__((packed, aligned(4)));

_Static_assert(sizeof(struct front) % 4 == 0 && sizeof(struct front) <= 32, "length of metadata");
_Static_assert(__builtin_offsetof(struct front, again) == ETH_HLEN, "place of the second metadata");

/* A tag as flows and events keep it: 0 is no tag, else the kind in the upper four bits. */
#define TAG_8021Q  0x1000
#define TAG_8021AD 0x2000
#define TAG_9100   0x3000

/* One conversation, written from the wire's geometry rather than from who began it: the end
 * on side a first. Both directions thus share one entry, without a comparison. Addresses are
 * in network byte order, IPv4 as ::ffff:a.b.c.d; ports in network byte order, and for ICMP
 * echo the identifier on both ends. */
struct flow_key {
	__u8 mac_a[6];
	__u8 mac_b[6];
	__u8 ip_a[16];
	__u8 ip_b[16];
	__be16 port_a;
	__be16 port_b;
	__u16 tags[2];
	__u8 protocol;
	__u8 fragment; /* the entry of a conversation's fragments, which show no ports */
	__u8 reserved[2];
};

/* What TCP has shown, for expiry. One bit an end: the end on side a is bit 0. Two CPUs that write it at once may lose a
 * bit, which the next frame of its kind or the idle limit makes good. */
#define FLOW_FIN_A     0x01
#define FLOW_FIN_B     0x02
#define FLOW_RST       0x04
#define FLOW_CLOSING   (FLOW_FIN_A | FLOW_FIN_B | FLOW_RST)
#define FLOW_ANSWERED  0x08 /* the responder has spoken */
#define FLOW_ADOPTED   0x10 /* begun without its SYN */
#define FLOW_PASSED    0x20 /* frames passed uninspected in an outage since the last bump */

/* How a flow's frames are treated beside their verdict. */
#define FLOW_OBSERVED 0x01 /* forwarded whatever the slow path would say */
#define FLOW_LIMITED  0x02 /* its conduit has a rate limit */
#define FLOW_OPENS    0x04 /* its conduit opens in an outage */
#define FLOW_WHOLE    0x08 /* its conduit covers every port, and so its fragments have an entry */
#define FLOW_INSPECT  0x10 /* the verdict: inspected, or allowed */
#define FLOW_BY_B     0x20 /* begun by the end on side b */
#define FLOW_SPILLED  0x40 /* it lies around its second home */
#define FLOW_DECIDED  (FLOW_OBSERVED | FLOW_LIMITED | FLOW_OPENS | FLOW_WHOLE | FLOW_INSPECT | FLOW_BY_B)

/* What an entry of the flow table is: the low bits of its version. */
#define ENTRY_FREE  0
#define ENTRY_BUSY  1 /* somebody writes it: nothing in it holds */
#define ENTRY_LIVE  2
#define ENTRY_STATE 3
#define ENTRY_NEXT  4 /* added with each change of state */

/* A flow lies in one of the 16 entries around its home, which share eight cache lines: the one whose
 * number is the home's but for the lowest bits. The two that differ in the last bit share one. */
#define ENTRIES_AROUND 16

/* Flows that find no room there lie in as many entries around their second home, which is among the
 * last of the table: for each this many others, one. */
#define SPILL_SHARE 4

/* The low bits of an entry's hops say which entries around it hold a flow whose home it is: bit n the
 * one with the number of this one, exclusive or n. */
#define HOPS_MASK    0x0000ffff
#define HOPS_SPILLED 0x00010000 /* one has found no room: look around its second home, too; stays set */
#define HOPS_LOCK    0x80000000u /* held by who adds, changes or removes a flow whose home is here */

/* Times in an entry: short, so that all of it fits. Moments of the kernel's ticks, in ns, less so
 * many low bits. */
#define SEEN_SHIFT    24 /* 17 ms; comes round after two years */
#define DECIDED_SHIFT 31 /* 2 s; comes round after 39 hours, longer than a flow goes undecided */

/* A direction's frames and bytes that the record does not have yet, in one word, so that both are
 * one addition: frames in the low bits. With as many frames as SUM_FULL they move to the record; what
 * CPUs that race add beyond that has room, too. */
#define SUM_BYTES_SHIFT 8
#define SUM_FRAMES_MASK 0xff
#define SUM_FULL	0x80

/* The words of a key that are hashed: of IPv4, and of IPv6. */
#define KEY_WORDS_IPV4 8
#define KEY_WORDS_IPV6 14

/* One hash function: a seed for each word, and one for all. Three make a flow's homes and its print. */
struct hash {
	__u64 seeds[KEY_WORDS_IPV6 + 1];
};
#define HASHES 3

/* Beside the print: where one of the flows is whose home this entry is, and which are neither in it nor in
 * the one beside it; 0 for nowhere. Of the entry, not of the flow that is in it. */
#define PRINT_HOP 0x0full

/* A flow as its frames need it, half a cache line: the print of its key and its verdict. The
 * protocol of reading and writing it is in lib/table.h. */
struct flow {
	__u64 print;
	__u32 version;
	__u32 seen;
	__u32 sum[2]; /* 0: from side a */
	__u16 generation; /* of the policy that gave the verdict, its low bits */
	__u16 decided; /* when identity and conduit were last asked */
	__u16 conduit;
	__u8 state;
	__u8 treatment;
};

struct flow_direction {
	__u64 frames;
	__u64 bytes;
};

/* The rest of it, at the same place of another array: for what is rare, and for user space. */
struct flow_record {
	struct flow_key key;
	__u64 created; /* CLOCK_MONOTONIC, ns */
	__u32 slot;    /* slot and its generation as in the mark; 0 has none */
	__u32 source;  /* identity of the initiator */
	__u32 destination;
	__u32 generation; /* of the policy that gave the verdict */
	struct flow_direction direction[2]; /* 0: from side a; without what is in the entry's sums */
	__u32 moves[2]; /* odd while a direction's sum moves from the entry to here */
	__u32 owner; /* identity that it is counted for: whose frame began it */
	__u32 spare;
};

/* An entry and the version that was looked at, which a removal asks for. */
struct flow_choice {
	__u32 at;
	__u32 version;
};

#define CHOICES 256 /* in one removal */
#define CHOICES_OFFSET 16
#define CHOICES_BUSY   14 /* where two bytes say, if they are not 0, that flows go that are not idle, too */

/* Which flow holds a slot. */
struct slot {
	__u32 at;   /* its entry */
	__u32 slot; /* with the generation in force */
};

/* MAC address, padded so that the key has no hole. */
struct mac_key {
	__u8 mac[6];
	__u8 reserved[2];
};

struct address_key {
	__u32 prefix_length; /* over holder and address: 32 + bits */
	__be32 holder;	     /* identity whose MAC the frame carries; 0: any, "whose is it" */
	__u8 address[16];
};

struct identity {
	__u32 class;
	__u16 zone;
	__u8 side;
	__u8 kind;
	__u8 unbound; /* owns no addresses: may use each that belongs to nobody */
	__u8 untagged;
	__u8 reserved[6];
	__u64 vlans[64]; /* one bit a VLAN identifier */
};

#define TRANSPORT_ETHERTYPE 256

struct pair_key {
	__u32 from;
	__u32 to;
	__u32 transport; /* IP protocol number, or TRANSPORT_ETHERTYPE */
};

struct pair {
	__u32 first;
	__u32 count;
	__u32 observed; /* one of its conduits, where all of them are observed; else 0 */
};

struct range {
	__u16 low;
	__u16 high;
	__u32 conduit;
};

/* A rate limit as the virtual scheduling algorithm has it (ITU-T I.371 annex A, GCRA): what a
 * frame costs in time, and how far ahead of the clock its kind may be. All 0: no limit. */
struct limit {
	__u64 frame_cost; /* ns */
	__u64 frame_burst;
	__u64 kib_cost; /* ns for 1024 bytes */
	__u64 byte_burst;
};

struct conduit {
	__u8 action;
	__u8 observe;
	__u8 opens; /* in an outage */
	__u8 limited;
	__u8 io; /* its datagrams to the port of cyclic I/O pass on open connections only */
	__u8 io_joins; /* connections that were opened unread are adopted after an outage */
	__u8 wide; /* it names no port of UDP, and means all but those that have to be named */
	__u8 reserved;
	struct limit limit;
};

/* When the next frame, and the next byte, would be exactly on time. CLOCK_MONOTONIC, ns. */
struct bucket {
	__u64 frames;
	__u64 bytes;
};

/* What holds for a policy as a whole. Two of them, picked by the generation's low bit. */
struct policy_defaults {
	__u32 generation;
	__u8 enforce; /* 0: discover or observe, nothing is held */
	__u8 unknown_identity;
	__u8 intra_zone;
	__u8 arp_guard;
	__u8 link_local;
	__u8 storm_limited;
	__u8 reserved[2];
	__u32 conduits; /* how many there are, 0, which is none, among them */
	__u64 version;	/* the daemon's number for the policy, 0 where it has none */
	__u8 policy[32]; /* SHA-256 of its text */
	struct limit broadcast; /* for each port */
	struct limit multicast;
	struct limit control; /* what is permitted on link-local groups */
};

/* The one word that a policy change flips, and what changes without a policy. */
struct control_block {
	__u32 generation; /* 0: no policy, deny */
	__u32 flow_quota; /* flows that one identity may have begun */
	__u64 adopt_until;	 /* CLOCK_MONOTONIC, ns: reverse adoption ends */
	__u64 io_adopt_until;	 /* likewise: adoption of I/O that an outage or a bypass let through */
	__u64 heartbeat_timeout; /* ns */
	__u64 tick;		 /* ns that a tick of the kernel's clock (jiffies) lasts */
	__u64 clock_ticks;	 /* one moment in both clocks, as program clock read it */
	__u64 clock_ns;
	__u32 slots_ready;	 /* the free slots have been handed out, once for these maps */
	__u32 lane_mask;	 /* lanes less one */
	__u32 queue_share;	 /* packets of one identity that may wait in a queue; 0: any number */
	__u32 tallied;		 /* generation whose tallies are complete */
	__u32 flow_homes;	 /* entries of the flow table without those for what spills */
	__u32 flow_spill;	 /* and those */
	struct hash hashes[HASHES]; /* of the flow table, drawn once for these maps */
};

/* One queue of inspection. What the verdict loop writes and what XDP writes for every frame lie
 * in cache lines of their own. Positions count frames: the loop has answered those up to answered
 * of the ones that were handed over, or they are lost. */
struct queue_state {
	__u64 beat; /* CLOCK_MONOTONIC, ns, of the verdict loop itself */
	__u64 answered;
	/* ns for which conduits that open were open, since there are these maps. User space's own, of all
	 * queues together: in the first of them, for the next daemon. */
	__u64 open;
	__u64 reserved[5];
	__u64 handed;
	__u64 rest[7];
};

/* What one identity has waiting in one queue, see lib/share.h. */
struct queue_share {
	__u64 begun; /* the position at which the window under way begins */
	__u32 frames; /* handed over in it */
	__u32 before; /* handed over in the window before */
};

/* Cyclic I/O of EtherNet/IP (CIP transport classes 0 and 1; CIP volume 2, 3-2.2). */
#define IO_PORT 2222

/* One direction of an open I/O connection, as its frames show it: both ends, the side that they
 * come from, and the connection identifier. Addresses in network byte order. Tags without those
 * that are no VLAN: a producer may send its I/O with a priority and its messages without. */
struct io_key {
	__u8 source_mac[6];
	__u8 destination_mac[6];
	__be32 source;
	__be32 destination;
	__u16 tags[2];
	__u32 connection; /* host byte order */
	__u8 side;
	__u8 reserved[3];
};

#define IO_GRACE 20000000 /* ns: two ticks of the slowest clock that kernels are built with */

#define IO_VARIABLE 0x01 /* the size is the most that a frame may have */

/* What the ends agreed upon for that direction. A place is an index of io_states; 0 is none. */
struct io_half {
	__u32 place;
	__u32 peer; /* of the other direction; 0 where that one is watched by user space alone */
	__u16 size; /* bytes of the connected data item */
	__u8 treatment;
	__u8 reserved[5];
	__u64 timeout; /* ns, of the consumer's watchdog */
};

#define IO_STARTED 0x100000000ull /* beside the last sequence number: there is one */

/* How a direction goes. */
struct io_state {
	__u64 seen;	/* by jiffies, ns */
	__u64 timeout;	/* ns from then on; until the first frame longer than the watchdog's */
	__u64 sequence; /* of the last frame that passed, with IO_STARTED */
	__u64 frames;
	__u64 bytes;
	__u64 lost;    /* sequence numbers that never came */
	__u64 old;     /* frames denied over their sequence number */
	__u64 unequal; /* frames denied over their size */
};

/* Under which generation of the policy a direction is permitted, and as what. There is one for
 * each half of the policy's maps: what the next policy permits is written down before it is in
 * force, and what it does not permit is over with the flip. */
struct io_approval {
	__u32 generation;
	__u32 conduit;
	__u32 source; /* identity */
	__u32 destination;
	__u8 observed;
	__u8 limited;
	__u8 reserved[6];
};

/* A frame of a connection that is not known, on a conduit that opens, in an outage or soon after. */
struct io_candidate {
	__u32 conduit;
	__u32 generation;
	__u16 size;
	__u8 reverse; /* from the conduit's responder */
	__u8 reserved[5];
};

#define IO_OPENING_MAX 716 /* bytes */

/* A connection as user space keeps it, so that the next daemon knows of it. */
struct io_connection {
	struct io_key originator; /* what the originator sends */
	struct io_key target;
	struct io_half halves[2]; /* in the same order; place 0: that end sends nothing */
	struct flow_key session;  /* the TCP conversation that opened it; zero for an adopted one */
	__u32 originator_serial;
	__u16 serial;
	__u16 vendor;
	__u64 opened; /* CLOCK_MONOTONIC, ns */
	__u16 opening_length;
	__u8 class;
	__u8 adopted;
	__u8 reserved[4];
	__u32 session_slot; /* that the session's flow holds, with a generation that may be over */
	__u8 opening[IO_OPENING_MAX]; /* what the policy is asked about again; user space alone knows it */
};

/* Per CPU and per reason: what was decided, what was told, what was not told. */
struct reason_counter {
	__u64 frames;
	__u64 bytes;
	__u64 events_lost; /* by the rate limit or a full ring */
	__u64 window;	   /* start of the limit's second, ns */
	__u64 told;	   /* events in that second */
};

struct conduit_counter {
	__u64 allowed;
	__u64 denied;
	__u64 uninspected;
	__u64 inspected;
};

/* Per CPU and per side: link-local control traffic that was forwarded. */
struct control_counter {
	__u64 frames;
	__u64 bytes;
};

/* What was counted under a conduit's name before the generation that it is of, and by the slow path. */
struct tally {
	__u64 name; /* the first bytes of its SHA-256; 0: no conduit */
	struct conduit_counter frames;
	__u64 messages_allowed;
	__u64 messages_denied;
};

/* What user space has added to counters, by program carry: those of the maps of another layout, whose programs
 * were replaced. The numbers are fields of that counter, in their order. Of a direction of I/O the first two
 * are the sequence that it began with here, and the one that it had come to there. */
#define CARRY_REASON	   0 /* frames, bytes, events_lost */
#define CARRY_LINK_CONTROL 1 /* frames, bytes */
#define CARRY_COPIES	   2 /* copied, lost */
#define CARRY_IO	   3 /* sequences; frames, bytes, lost, old, unequal */
#define CARRY_OFFSET	   16 /* in its packet, behind room for an Ethernet header */

struct carried {
	__u32 what;
	__u32 index; /* of the counter */
	__u64 numbers[7];
};

#define EVENTS_PER_SECOND 64 /* for each reason and CPU */

struct event {
	__u64 time; /* CLOCK_MONOTONIC, ns */
	__u32 generation;
	__u32 conduit;
	__u32 source;
	__u32 destination;
	__u8 action;
	__u8 reason;
	__u8 side;
	__u8 observed; /* forwarded all the same */
	__u8 source_mac[6];
	__u8 destination_mac[6];
	__u16 tags[2];
	__u16 ethertype; /* host byte order; 0 for 802.3 with LLC */
	__u16 length;
	__u8 source_ip[16];
	__u8 destination_ip[16];
	__be16 source_port;
	__be16 destination_port;
	__u8 protocol;
	__u8 is_ip; /* the addresses hold something: IP or ARP */
	__u8 icmp_type;
	__u8 tcp_flags;
};

/* A copy of a frame for the observing pipeline. The frame follows. */
struct tap_header {
	__u64 time;
	__u32 key; /* as MARK_KEY_MASK */
	__u16 length;
	__u16 network; /* offset of the IP header in the frame */
	__u8 side;
	__u8 reserved[7];
};

#endif
