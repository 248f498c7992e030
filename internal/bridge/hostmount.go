package bridge

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// bpffs is where BPF objects are pinned.
const bpffs = "/sys/fs/bpf"

// rejoined is the environment variable that marks a program that RejoinHost has started again.
// Its name is outside of PENSTOCK_…, where settings are read from.
const rejoined = "_PENSTOCK_REJOINED_HOST_MOUNTS"

// RejoinHost starts the program again among the mounts of process 1 where its own mounts would
// end with it. That is so under `ip netns exec`, which gives a program a mount namespace of its
// own: what is pinned and which namespaces are named there vanishes when the program ends, and
// the datapath, which is to outlive it, would vanish too. Arguments, environment, working directory,
// descriptors and network namespace stay; RejoinHost then does not return.
//
// It returns nil where there is nothing to do: BPF objects can be pinned here, or process 1 has
// the same mounts. To be called before anything else, in particular before threads are locked.
func RejoinHost() error {
	second := os.Getenv(rejoined) != ""
	if err := os.Unsetenv(rejoined); err != nil { // not for programs that this one starts
		return fmt.Errorf("rejoin the host's mounts: %w", err)
	}
	apart, err := mountsApart()
	if err != nil {
		return fmt.Errorf("rejoin the host's mounts: %w", err)
	}
	if !apart {
		return nil
	}
	if second {
		return errors.New("rejoin the host's mounts: started again, the program still has others than process 1")
	}
	return OnOwnThread(startAgain)
}

// mountsApart reports whether pins need mounts that this process does not have.
func mountsApart() (bool, error) {
	if isBPFFS() {
		return false, nil
	}
	ours, err := os.Readlink("/proc/thread-self/ns/mnt")
	if err != nil {
		return false, err
	}
	host, err := hostMounts()
	if err != nil {
		return false, err
	}
	theirs, err := os.Readlink(host)
	return err == nil && ours != theirs, err
}

// hostMounts returns the path of a mount namespace that lasts: that of process 1. Where even
// root may not look at process 1, it is that of the kernel's own threads, which process 1 began in.
func hostMounts() (string, error) {
	const init, threads = "/proc/1/ns/mnt", "/proc/2/ns/mnt"
	_, err := os.Readlink(init)
	if err == nil {
		return init, nil
	}
	if !errors.Is(err, fs.ErrPermission) || !isKernelThread(2) {
		return "", err
	}
	_, err = os.Readlink(threads)
	return threads, err
}

// isKernelThread: in a container process 2 is anybody's. A kernel thread has no program.
func isKernelThread(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	// pid (name) state ppid pgrp session tty tpgid flags …
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	if len(fields) < 7 {
		return false
	}
	const kernelThread = 0x00200000 // PF_KTHREAD of linux/sched.h
	flags, err := strconv.ParseUint(fields[6], 10, 64)
	return err == nil && flags&kernelThread != 0
}

// startAgain replaces the process by itself, from a thread that has changed its mount namespace:
// the new program takes over this thread's namespaces.
func startAgain() error {
	directory, err := os.Getwd()
	if err != nil {
		return fmt.Errorf("rejoin the host's mounts: %w", err)
	}
	// Held open: behind the new root the path may lead elsewhere.
	program, err := unix.Open("/proc/self/exe", unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("rejoin the host's mounts: open this program: %w", err)
	}
	if err := enterHostMounts(directory); err != nil {
		return errors.Join(err, unix.Close(program))
	}
	environment := append(os.Environ(), rejoined+"=1")
	err = unix.Exec(fmt.Sprintf("/proc/thread-self/fd/%d", program), os.Args, environment)
	return fmt.Errorf("rejoin the host's mounts: start %s again: %w", strings.Join(os.Args, " "), err)
}

func enterHostMounts(directory string) error {
	path, err := hostMounts()
	if err != nil {
		return fmt.Errorf("rejoin the host's mounts: %w", err)
	}
	host, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("rejoin the host's mounts: open %s: %w", path, err)
	}
	defer unix.Close(host)
	// The kernel moves no thread that shares its working directory with another.
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return fmt.Errorf("rejoin the host's mounts: unshare the working directory: %w", err)
	}
	if err := unix.Setns(host, unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("rejoin the host's mounts: enter %s: %w", path, err)
	}
	if err := unix.Chdir(directory); err != nil {
		return fmt.Errorf("rejoin the host's mounts: %s does not exist there: %w", directory, err)
	}
	return nil
}

func isBPFFS() bool {
	var st unix.Statfs_t
	return unix.Statfs(bpffs, &st) == nil && int64(st.Type) == unix.BPF_FS_MAGIC
}

// EnsureBPFFS mounts the file system in which BPF objects are pinned, where it is not mounted.
func EnsureBPFFS() error {
	if isBPFFS() {
		return nil
	}
	const options = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC | unix.MS_RELATIME
	if err := unix.Mount("bpf", bpffs, "bpf", options, "mode=0700"); err != nil {
		return fmt.Errorf("mount the BPF file system on %s (CONFIG_BPF_SYSCALL): %w", bpffs, err)
	}
	return nil
}
