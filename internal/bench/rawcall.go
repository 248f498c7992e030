package main

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// rawCall is read(2) or write(2).
func rawCall(call uintptr, fd int, b []byte) (int, syscall.Errno) {
	n, _, err := unix.RawSyscall(call, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
	return int(n), err
}
