//go:build linux

// Package mlock keeps the process's memory from being written to swap.
package mlock

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"arca/internal/errs"
)

// Supported reports whether this system can lock memory.
const Supported = true

// Lock locks all memory that the process has and will have. Pages are locked
// when they are first touched (MCL_ONFAULT): what Go reserves and never uses
// costs nothing. Without the right to do so, the error says how to get it.
func Lock() error {
	err := unix.Mlockall(unix.MCL_CURRENT | unix.MCL_FUTURE | unix.MCL_ONFAULT)
	if errors.Is(err, unix.EINVAL) { // before Linux 4.4
		err = unix.Mlockall(unix.MCL_CURRENT | unix.MCL_FUTURE)
	}
	if err == nil {
		return nil
	}
	return errs.New(errs.Invalid, "lock memory: %w\n\n%s", err, help())
}

// Check tells whether Lock can work, without locking anything.
func Check() error {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_MEMLOCK, &limit); err == nil && limit.Cur == unix.RLIM_INFINITY {
		return nil
	}
	if hasCapability(unix.CAP_IPC_LOCK) {
		return nil
	}
	return errs.New(errs.Invalid, "this process may not lock memory (the limit is %d bytes)\n\n%s", limit.Cur, help())
}

func hasCapability(bit uint) bool {
	head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&head, &data[0]); err != nil {
		return false
	}
	return data[bit/32].Effective&(1<<(bit%32)) != 0
}

// help says what to do; any of the three suffices.
func help() string {
	program := "$(readlink -f $(which " + filepath.Base(os.Args[0]) + "))"
	if exe, err := os.Executable(); err == nil {
		program = exe
	}
	return fmt.Sprintf(`Secrets in memory could reach the disk by way of swap. Do one of these:
  * give the program the right to lock memory:   sudo setcap cap_ipc_lock=+ep %s
  * with systemd, set in the unit:               LimitMEMLOCK=infinity (and AmbientCapabilities=CAP_IPC_LOCK)
  * without swap, or with encrypted swap, set:   disable_mlock = true`, program)
}
