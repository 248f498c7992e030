package datapath

import "golang.org/x/sys/unix"

func mountBPF(dir string) error   { return unix.Mount("penstock-test", dir, "bpf", 0, "") }
func unmountBPF(dir string) error { return unix.Unmount(dir, unix.MNT_DETACH) }
