//go:build !linux

package watch

import "fmt"

func newFanotify(Options) (Watcher, error) {
	return nil, fmt.Errorf("fanotify needs Linux: %w", ErrUnsupported)
}
