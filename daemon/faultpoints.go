//go:build faultpoints

package daemon

import (
	"os"
	"strings"
	"syscall"
	"time"
)

// faultFile is the variable of the environment that names the file that says at which
// fault point of a change of roles what is to happen, in programs built for tests:
//
//	kill role/cutover/grant/begun    the daemon ends there as by SIGKILL, and the file is gone
//	hold role/cutover/grant/begun    FILE is renamed to FILE.held, and the daemon goes on when that is gone
const faultFile = "REPLD_FAULT_FILE"

func init() { builtFault = faultByFile }

func faultByFile(point string) error {
	path := os.Getenv(faultFile)
	if path == "" {
		return nil
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil // there is none now
	}
	what, at, _ := strings.Cut(strings.TrimSpace(string(text)), " ")
	switch {
	case at != point:
	case what == "kill":
		if err := os.Remove(path); err != nil {
			return err
		}
		return syscall.Kill(os.Getpid(), syscall.SIGKILL)
	case what == "hold":
		held := path + ".held"
		if err := os.Rename(path, held); err != nil {
			return err
		}
		for _, err = os.Lstat(held); err == nil; _, err = os.Lstat(held) {
			time.Sleep(5 * time.Millisecond)
		}
	}
	return nil
}
