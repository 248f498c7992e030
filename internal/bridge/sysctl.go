package bridge

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// sysctlDir shows the settings of the calling thread's network namespace.
const sysctlDir = "/proc/sys/net"

// ReadSysctl reads a setting below /proc/sys/net in the network namespace of the calling thread;
// the path is in parts, because interface names may hold dots.
func ReadSysctl(parts ...string) (string, error) {
	b, err := os.ReadFile(sysctlPath(parts))
	if err != nil {
		return "", fmt.Errorf("read setting: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}

// WriteSysctl writes a setting below /proc/sys/net in the network namespace of the calling thread.
func WriteSysctl(value string, parts ...string) error {
	// Not os.WriteFile: it would ask to create what the kernel does not have.
	f, err := os.OpenFile(sysctlPath(parts), os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("write setting: %w", err)
	}
	_, err = f.WriteString(value)
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write setting: %w", err)
	}
	return nil
}

// ensureSysctl writes the setting unless it has that value already, and reports whether it did.
func ensureSysctl(value string, parts ...string) (changed bool, err error) {
	got, err := ReadSysctl(parts...)
	if err != nil || got == value {
		return false, err
	}
	return true, WriteSysctl(value, parts...)
}

func sysctlPath(parts []string) string {
	return filepath.Join(append([]string{sysctlDir}, parts...)...)
}

// missing reports whether the kernel has no such setting, as when IPv6 is not built in.
func missing(err error) bool { return errors.Is(err, fs.ErrNotExist) }
