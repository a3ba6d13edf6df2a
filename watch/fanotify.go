package watch

import "fmt"

func newFanotify(Options) (Watcher, error) {
	return nil, fmt.Errorf("fanotify: %w", ErrUnsupported)
}
