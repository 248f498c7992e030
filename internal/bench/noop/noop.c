/*
 * noop QUEUE MARK: accept every packet of a netfilter queue with a mark and do nothing else.
 *
 * It is what the benchmarks compare the queue's reader with: the straightforward way to do it in
 * C, one receive and one verdict at a time, with libnetfilter_queue. Build it with
 *     cc -O2 -o noop noop.c -lnetfilter_queue
 * MARK is decimal or 0x hexadecimal. It writes "ready" once packets are queued to it.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/netfilter.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <libnetfilter_queue/libnetfilter_queue.h>

static char buffer[1 << 17] __attribute__((aligned(4)));

static int answer(struct nfq_q_handle *queue, struct nfgenmsg *message, struct nfq_data *packet, void *mark)
{
	struct nfqnl_msg_packet_hdr *header = nfq_get_msg_packet_hdr(packet);

	(void)message;
	if (!header)
		return 0;
	return nfq_set_verdict2(queue, ntohl(header->packet_id), NF_ACCEPT, *(uint32_t *)mark, 0, NULL);
}

static int fail(const char *what)
{
	perror(what);
	return 1;
}

int main(int argc, char **argv)
{
	struct nfq_q_handle *queue;
	struct nfq_handle *handle;
	uint32_t mark;

	if (argc != 3) {
		fprintf(stderr, "usage: %s QUEUE MARK\n", argv[0]);
		return 2;
	}
	mark = strtoul(argv[2], NULL, 0);
	handle = nfq_open();
	if (!handle)
		return fail("open a netfilter socket");
	queue = nfq_create_queue(handle, strtoul(argv[1], NULL, 0), answer, &mark);
	if (!queue)
		return fail("bind the queue");
	if (nfq_set_mode(queue, NFQNL_COPY_PACKET, 0xffff) < 0)
		return fail("switch the queue to copying packets");
	puts("ready");
	fflush(stdout);
	for (;;) {
		int n = recv(nfq_fd(handle), buffer, sizeof(buffer), 0);

		if (n >= 0)
			nfq_handle_packet(handle, buffer, n);
		else if (errno != ENOBUFS && errno != EINTR)
			return fail("receive");
	}
}
