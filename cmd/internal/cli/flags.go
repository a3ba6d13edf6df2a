package cli

import (
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"repld/control"
)

// wanted says what flags of a type take, with an example.
var wanted = map[string]string{
	"duration": "a duration such as 500ms, 30s, 10m, 24h or 7d",
	"int":      "a whole number such as 20",
	"bool":     "true or false",
}

// flagError is what a flag with a bad value is answered with: what was found, what was
// wanted.
func flagError(cmd *cobra.Command, err error) error {
	var bad *pflag.InvalidValueError
	if !errors.As(err, &bad) {
		return err
	}
	want, ok := wanted[bad.GetFlag().Value.Type()]
	if !ok {
		return err
	}
	return control.Errorf(control.ExitUsage, "--%s is %q: want %s", bad.GetFlag().Name, bad.GetValue(), want).
		WithHint("see `%s --help`", cmd.CommandPath())
}

// Duration adds a flag of a duration, which may be of days as in the configuration.
func Duration(cmd *cobra.Command, to *time.Duration, name string, otherwise time.Duration, usage string) {
	*to = otherwise
	cmd.Flags().Var((*duration)(to), name, usage)
}

type duration time.Duration

// Set reads what a flag is given.
func (d *duration) Set(s string) error {
	if days, ok := strings.CutSuffix(s, "d"); ok {
		n, err := strconv.ParseFloat(days, 64)
		if err != nil || n > 100_000 || n < -100_000 {
			return errors.New("no number of days")
		}
		*d = duration(n * 24 * float64(time.Hour))
		return nil
	}
	n, err := time.ParseDuration(s)
	*d = duration(n)
	return err
}

// String is the default in the help.
func (d *duration) String() string { return time.Duration(*d).String() }

// Type is the flag's type in the help.
func (*duration) Type() string { return "duration" }
