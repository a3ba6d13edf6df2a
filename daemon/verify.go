package daemon

import (
	"context"

	"repld/control"
	"repld/wire"
)

// Verify compares both trees.
func (p *primary) Verify(ctx context.Context, req control.VerifyRequest, progress func(control.VerifyProgress)) (*control.VerifyReport, error) {
	return nil, control.Errorf(control.ExitUsage, "not in this version")
}

// Verify compares both trees.
func (s *standby) Verify(ctx context.Context, req control.VerifyRequest, progress func(control.VerifyProgress)) (*control.VerifyReport, error) {
	return nil, control.Errorf(control.ExitUsage, "not in this version")
}

func (p *primary) verifyLocal(ctx context.Context, req wire.VerifyRequest, report func(wire.VerifyReport) error) error {
	return nil
}

func (s *standby) verifyLocal(ctx context.Context, req wire.VerifyRequest, report func(wire.VerifyReport) error) error {
	return nil
}
