package alert

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"sync"

	"repld/durable"
	"repld/health"
)

// storeVersion is the version of the file. It only grows.
const storeVersion = 1

// store is the file with what every sink was told.
type store struct {
	path   string // "" = nothing is kept
	logger *slog.Logger

	mu   sync.Mutex
	told map[string][]health.Condition
}

type storeFile struct {
	Version int                           `json:"version"`
	Told    map[string][]health.Condition `json:"told"`
}

func openStore(path string, logger *slog.Logger) *store {
	s := &store{path: path, logger: logger, told: make(map[string][]health.Condition)}
	if path == "" {
		return s
	}
	told, err := readStore(path)
	switch {
	case err == nil:
		s.told = told
	case !errors.Is(err, fs.ErrNotExist):
		logger.Warn("what alerts have told is not known: what stands is told again", "error", err)
	}
	return s
}

func readStore(path string) (map[string][]health.Condition, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var f storeFile
	if err := json.Unmarshal(b, &f); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if f.Version != storeVersion || f.Told == nil {
		return nil, fmt.Errorf("%s has version %d, want %d", path, f.Version, storeVersion)
	}
	return f.Told, nil
}

// get returns what a sink was told stands.
func (s *store) get(sink string) []health.Condition {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.told[sink]
}

// put notes what a sink was told stands; nil forgets the sink.
func (s *store) put(sink string, told []health.Condition) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if told == nil {
		delete(s.told, sink)
	} else {
		s.told[sink] = told
	}
	s.save()
}

// keep forgets all sinks but these.
func (s *store) keep(names map[string]bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	gone := false
	for name := range s.told {
		if !names[name] {
			delete(s.told, name)
			gone = true
		}
	}
	if gone {
		s.save()
	}
}

func (s *store) save() {
	if s.path == "" {
		return
	}
	b, err := json.Marshal(storeFile{storeVersion, s.told})
	if err == nil {
		err = durable.WriteFile(s.path, append(b, '\n'), 0o600)
	}
	if err != nil {
		s.logger.Warn("what alerts have told can't be kept: after a restart it is told again", "error", err)
	}
}
