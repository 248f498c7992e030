/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-3-Clause) */
#ifndef PENSTOCK_DECISION_H
#define PENSTOCK_DECISION_H

#include "parse.h"

/* What the policy says about one frame. A zeroed decision denies: ACTION_UNDECIDED is nothing
 * that the entry program forwards. */
struct decision {
	__u32 generation;
	__u32 index; /* of the maps in force: the generation's low bit */
	__u32 conduit;
	__u32 source;
	__u32 destination;
	__u32 slot;
	__u32 owner; /* of the flow that was begun or renewed */
	__u8 action;
	__u8 reason;
	__u8 observed;	/* forwarded whatever was decided */
	__u8 reverse;	/* the frame travels from the conduit's responder */
	__u8 announce;	/* worth an event although permitted: the first of its flow */
	__u8 opens;	/* in an outage */
	__u8 silent;	/* not a denial worth telling */
	__u8 untracked; /* permitted by itself; no flow is kept */
	__u8 limited; /* by a rate */
	__u8 whole; /* the conduit covers every port, and so fragments */
	__u8 arp_guard; /* of the policy's defaults, where they matter on the way */
	__u8 intra_zone;
	__u8 fragmentable; /* the flow was begun or renewed, and its fragments are to have an entry */
	__u8 shown; /* that flow's state */
	__u8 io_joins; /* of the conduit */
};

static __always_inline int deny(struct decision *d, __u8 reason)
{
	d->action = ACTION_DENY;
	d->reason = reason;
	return -1;
}

#endif
