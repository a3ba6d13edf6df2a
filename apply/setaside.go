package apply

import "context"

// SetAside is what was set aside beside trees in which no [Applier] works: those of a
// node that sends now, or is down.
type SetAside struct{ a *Applier }

// NewSetAside returns what was set aside beside trees.
func NewSetAside(trees []Tree) *SetAside {
	a := &Applier{trees: trees, turn: make(chan struct{}, 1)}
	a.release()
	return &SetAside{a}
}

// Salvages is [Applier.Salvages].
func (s *SetAside) Salvages() ([]Salvaged, error) { return s.a.Salvages() }

// SalvagedEntries is [Applier.SalvagedEntries].
func (s *SetAside) SalvagedEntries(id string, fn func(SalvagedEntry) error) error {
	return s.a.SalvagedEntries(id, fn)
}

// RestoreSalvaged is [Applier.RestoreSalvaged].
func (s *SetAside) RestoreSalvaged(ctx context.Context, id, path, dir string) ([]Restored, error) {
	return s.a.RestoreSalvaged(ctx, id, path, dir)
}

// RemoveSalvaged is [Applier.RemoveSalvaged].
func (s *SetAside) RemoveSalvaged(ctx context.Context, id string) (Salvaged, error) {
	return s.a.RemoveSalvaged(ctx, id)
}
