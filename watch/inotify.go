package watch

import "fmt"

func newInotify(Options) (Watcher, error) {
	return nil, fmt.Errorf("inotify: %w", ErrUnsupported)
}
