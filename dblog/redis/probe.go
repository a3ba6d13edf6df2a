package redis

import (
	"context"
	"errors"
)

// Standing is what a server says of itself that could become a replica.
type Standing struct {
	Replica    bool
	Keys       int64
	Unsuitable string // why it can't be one; "" = it can
	Backlog    int64  // bytes of its stream that it remembers
}

// Look asks the server of a connection string once. No error shows the password.
func Look(ctx context.Context, dsn string) (Standing, error) {
	at, err := parse(dsn)
	if err != nil {
		return Standing{}, err
	}
	c, err := dial(ctx, at)
	if err != nil {
		return Standing{}, unreachable("the server", at, err)
	}
	defer c.Close()
	is, err := look(c)
	if err != nil {
		return Standing{}, unreachable("the server", at, err)
	}
	st := Standing{Replica: is.replica(), Keys: is.keys()}
	if st.Backlog, err = is.number("repl_backlog_size"); err != nil {
		return st, err
	}
	var setup setupError
	if err := is.unsuitable(); errors.As(err, &setup) {
		st.Unsuitable = setup.text
	}
	return st, nil
}
