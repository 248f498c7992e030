// Package queue reads packets from a kernel netfilter queue (NFQUEUE) and answers each of them.
//
// It holds one promise: every packet that the kernel queued gets exactly one verdict in bounded
// time, whatever the packet contains and whatever the handler does with it. A message that
// cannot be read, a handler that panics and an answer that cannot be encoded all end in a drop
// that is counted, never in a packet that waits for ever and never in an accept.
//
// go-nfqueue opens and configures the queue. Reading is done here, because its loop waits in the
// Go network poller, which costs several times the latency of a blocking read, and because it
// gives no verdict for a message that it cannot parse. See [Open] for how the two share a socket.
package queue
