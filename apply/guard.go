package apply

// guardHalt is what the guard stopped.
type guardHalt struct{}

const (
	stateGuard   = "apply.guard"
	guardDefault = 50
)
