/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-3-Clause) */
/* Copies for the observing pipeline. A copy that finds no room is lost and counted; the frame
 * itself is on its way regardless. */
#ifndef PENSTOCK_TAP_H
#define PENSTOCK_TAP_H

#include "decision.h"

#define TAP_SMALL 256
#define TAP_LARGE 2048
#define TAP_JUMBO 9728

#define DEFINE_TAP_COPY(size)                                                                   \
	static __noinline int tap_copy_##size(struct xdp_md *ctx, struct frame *f, __u32 key)   \
	{                                                                                       \
		const __u32 room = size - sizeof(struct tap_header);                            \
		struct tap_header *header;                                                      \
		__u32 length = f->length;                                                       \
                                                                                                \
		if (length < 1 || length > room)                                                \
			return -1;                                                              \
		header = bpf_ringbuf_reserve(&tap, size, 0);                                    \
		if (!header)                                                                    \
			return -1;                                                              \
		header->time = bpf_ktime_get_ns();                                                          \
		header->key = key;                                                              \
		header->length = length;                                                        \
		header->network = f->network;                                                   \
		header->side = f->side;                                                         \
		if (bpf_xdp_load_bytes(ctx, 0, (void *)(header + 1), length)) {                 \
			bpf_ringbuf_discard(header, 0);                                         \
			return -1;                                                              \
		}                                                                               \
		bpf_ringbuf_submit(header, 0);                                                  \
		return 0;                                                                       \
	}

DEFINE_TAP_COPY(TAP_SMALL)
DEFINE_TAP_COPY(TAP_LARGE)
DEFINE_TAP_COPY(TAP_JUMBO)

int __noinline tap_frame(struct xdp_md *ctx, struct frame *f, __u32 key)
{
	struct tap_counter *counter;
	__u32 zero = 0;
	int failed;

	if (!f)
		return 0;
	if (f->length <= TAP_SMALL - sizeof(struct tap_header))
		failed = tap_copy_TAP_SMALL(ctx, f, key);
	else if (f->length <= TAP_LARGE - sizeof(struct tap_header))
		failed = tap_copy_TAP_LARGE(ctx, f, key);
	else
		failed = tap_copy_TAP_JUMBO(ctx, f, key);
	counter = bpf_map_lookup_elem(&tap_counters, &zero);
	if (!counter)
		return 0;
	if (failed)
		counter->lost++;
	else
		counter->copied++;
	return 0;
}

#endif
