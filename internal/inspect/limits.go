package inspect

import "time"

// Limits bound what a pipeline keeps, or what pipelines with a Common keep together. A zero field
// means its default. Of Connections, StreamBytes, AllRequests and Assemblies the connections that one
// identity began get a quarter. Past holds for each pipeline.
type Limits struct {
	Connections int // followed at a time; a SYN beyond is denied as table_full. 16384
	Past        int // keys of forgotten connections; beyond, they are not forgotten. 65536
	StreamBytes int // in buffers of all connections; beyond, segments wait as table_full. 64 MiB
	Messages    int // recorded of one packet; all are judged and counted. 64
	Requests    int // unanswered on one connection; a segment beyond waits as table_full. 512
	AllRequests int // unanswered on all connections; of DNP3, pairs of stations. 65536
	Assemblies  int // DNP3 messages of which a part has come, on all connections; a segment beyond waits. 4096
	Refusals    int // segments dropped while a direction is out of step, before the end. 3

	Idle      time.Duration // an open connection may be silent that long. 2 h, as the fast path
	Datagrams time.Duration // the ends of datagrams. 3 min, as the fast path
	Opening   time.Duration // one that is not open yet. 30 s
	Gone      time.Duration // one of which the flow source knows no more. 30 s
	Closed    time.Duration // one that is closed, or by one end, for late segments. 30 s
	Ended     time.Duration // one that a denial ended, since its last segment. 5 min
	Answer    time.Duration // a request waits that long for its reply. 60 s
	Refusal   time.Duration // a refused one that long for the device's, before the end. 5 s
}

// JoinGrace is how long replies may belong to requests from before a connection was joined,
// unless one of them has matched earlier.
const JoinGrace = 30 * time.Second

func (l *Limits) setDefaults() {
	number := func(v *int, otherwise int) {
		if *v <= 0 {
			*v = otherwise
		}
	}
	duration := func(v *time.Duration, otherwise time.Duration) {
		if *v <= 0 {
			*v = otherwise
		}
	}
	number(&l.Connections, 16384)
	number(&l.Past, 65536)
	number(&l.StreamBytes, 64<<20)
	number(&l.Messages, 64)
	number(&l.Requests, 512)
	number(&l.AllRequests, 65536)
	number(&l.Assemblies, 4096)
	number(&l.Refusals, 3)
	duration(&l.Idle, 2*time.Hour)
	duration(&l.Datagrams, 3*time.Minute)
	duration(&l.Opening, 30*time.Second)
	duration(&l.Gone, 30*time.Second)
	duration(&l.Closed, 30*time.Second)
	duration(&l.Ended, 5*time.Minute)
	duration(&l.Answer, 60*time.Second)
	duration(&l.Refusal, 5*time.Second)
}
