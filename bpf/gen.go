// Package bpf holds the fast path in C and the Go that bpf2go generates from it. Only
// internal/datapath imports it. The compiled objects are committed, so that building Penstock
// needs no C compiler; go generate needs clang and the headers of libbpf.
package bpf

//go:generate go run github.com/cilium/ebpf/cmd/bpf2go -go-package bpf -target bpfel -cflags "-O2 -g -Wall -Werror -mcpu=v3 -I/usr/include/x86_64-linux-gnu" -type event -type tap_header -type flow -type flow_key -type flow_record -type flow_choice -type slot -type control_block -type queue_state -type policy_defaults -type identity -type conduit -type limit -type bucket -type pair_key -type pair -type range -type mac_key -type address_key -type reason_counter -type conduit_counter -type tap_counter -type control_counter -type tally -type io_key -type io_half -type io_state -type io_approval -type io_candidate -type io_connection -type carried -type penstock_reason -type penstock_action Bridge bridge.bpf.c
//go:generate go run github.com/cilium/ebpf/cmd/bpf2go -go-package bpf -target bpfel -cflags "-O2 -g -Wall -Werror -mcpu=v3 -I/usr/include/x86_64-linux-gnu" -type undelivered_counter Delivery delivery.bpf.c
