package pktgen

import (
	"runtime"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// liveBatch is how many frames the kernel makes and sends at a time, less than a virtual port's
// ring holds.
const liveBatch = 64

// runAttributes is the kernel's union bpf_attr for BPF_PROG_RUN.
type runAttributes struct {
	program     uint32
	result      uint32
	dataSizeIn  uint32
	dataSizeOut uint32
	dataIn      uint64
	dataOut     uint64
	repeat      uint32
	duration    uint32 // ns a frame, written by the kernel
	ctxSizeIn   uint32
	ctxSizeOut  uint32
	ctxIn       uint64
	ctxOut      uint64
	flags       uint32
	cpu         uint32
	batchSize   uint32
	_           uint32
}

// runLive runs a program over real frames, which go where the program sends them. The library
// runs programs too, but keeps the time that the kernel tells to itself.
func runLive(program *ebpf.Program, data []byte, frames int) (each time.Duration, err error) {
	attributes := runAttributes{
		program:    uint32(program.FD()),
		dataSizeIn: uint32(len(data)),
		dataIn:     uint64(uintptr(unsafe.Pointer(unsafe.SliceData(data)))),
		repeat:     uint32(frames),
		flags:      unix.BPF_F_TEST_XDP_LIVE_FRAMES,
		batchSize:  liveBatch,
	}
	_, _, number := unix.Syscall(unix.SYS_BPF, unix.BPF_PROG_RUN,
		uintptr(unsafe.Pointer(&attributes)), unsafe.Sizeof(attributes))
	runtime.KeepAlive(data)
	runtime.KeepAlive(program)
	if number != 0 {
		return 0, number
	}
	return time.Duration(attributes.duration), nil
}
