package repld

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"repld/cmd/internal/cli"
	"repld/control"
	"repld/daemon"
)

// tokenLimit bounds what is read as a join token, in bytes.
const tokenLimit = 4096

func (a *app) standbyCommand() *cobra.Command {
	o := daemon.QuickOptions{Role: daemon.Standby}
	cmd := &cobra.Command{
		Use: "standby DIR", Short: "be the standby of one tree", Args: cli.Args("DIR"),
		Long: `standby keeps DIR as the copy of a primary's tree. While it has no peer it prints one line,
"join token: TOKEN", on standard output; the token works once and for one hour.

What DIR holds already is used, so that only what differs crosses the link; what the primary does not have is
set aside next to DIR, never deleted. Stop it with SIGTERM or Ctrl-C; started again it goes on where it was.`,
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		o.Dir = args[0]
		return a.serve(cmd.Context(), o)
	}
	cmd.Flags().StringVar(&o.Listen, "listen", ":7440", "UDP `address` to listen on")
	a.quickFlags(cmd, &o)
	return cmd
}

func (a *app) primaryCommand() *cobra.Command {
	o := daemon.QuickOptions{Role: daemon.Primary}
	var join string
	cmd := &cobra.Command{
		Use: "primary DIR", Short: "be the primary of one tree", Args: cli.Args("DIR"),
		Long: `primary sends DIR to a standby and never writes into it. It needs --join the first time; after that
both sides know each other's key. "@FILE" reads the token from a file, "-" from standard input, which keeps it out of
the list of processes. Stop it with SIGTERM or Ctrl-C; started again it goes on where it was.`,
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		o.Dir = args[0]
		if cmd.Flags().Changed("join") {
			token, err := a.token(join)
			if err != nil {
				return err
			}
			o.Join = token
		}
		return a.serve(cmd.Context(), o)
	}
	cmd.Flags().StringVar(&join, "join", "", "join `token` of the standby, or @FILE or - to read it")
	a.quickFlags(cmd, &o)
	return cmd
}

func (a *app) quickFlags(cmd *cobra.Command, o *daemon.QuickOptions) {
	cmd.Flags().StringVar(&o.State, "state", "", "state `directory`, outside of DIR (default $XDG_STATE_HOME/repld/<hash of DIR>)")
	cmd.Flags().StringVar(&o.Name, "name", "", "`name` of this node (default the host's name)")
	cmd.Flags().StringVar(&a.profileTo, "profile", "", "`directory` for profiles of this run, for developers")
	if err := cmd.Flags().MarkHidden("profile"); err != nil {
		panic(err) // there is no such flag
	}
}

// token reads a join token from where the user says it is.
func (a *app) token(from string) (string, error) {
	var text []byte
	var err error
	switch file, isFile := strings.CutPrefix(from, "@"); {
	case from == "-":
		text, err = readToken(a.stdin)
	case isFile:
		var f *os.File
		if f, err = os.Open(file); err == nil {
			text, err = readToken(f)
			f.Close()
		}
	default:
		text = []byte(from)
	}
	// What the standby prints may be given as it stands.
	text = bytes.TrimSpace(bytes.TrimPrefix(bytes.TrimSpace(text), []byte("join token:")))
	switch {
	case err != nil:
		return "", control.Errorf(control.ExitUsage, "--join %s: %w", from, err)
	case len(text) == 0:
		return "", control.Errorf(control.ExitUsage, "--join: found no join token in %q", from).
			WithHint("`repld standby DIR` prints one while it has no peer")
	case len(bytes.Fields(text)) > 1:
		return "", control.Errorf(control.ExitUsage, "--join: found several words, want one join token")
	}
	return string(text), nil
}

func readToken(r io.Reader) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, tokenLimit+1))
	if err == nil && len(b) > tokenLimit {
		err = errors.New("too long for a join token")
	}
	return b, err
}

// serve runs a daemon until a signal ends ctx.
func (a *app) serve(ctx context.Context, o daemon.QuickOptions) (err error) {
	logger, err := a.logger()
	if err != nil {
		return err
	}
	if o.Dir == "" {
		return control.Errorf(control.ExitUsage, "DIR is empty: want the directory of the tree")
	}
	tune(logger)
	if a.profileTo != "" {
		stop, failed := profile(a.profileTo)
		if failed != nil {
			return control.Errorf(control.ExitUsage, "--profile: %w", failed)
		}
		defer func() { err = errors.Join(err, stop()) }()
	}
	o.Stdout, o.Stderr, o.Logger = a.stdout, a.stderr, logger
	defer ignoreReload(logger)()
	return daemon.RunQuick(ctx, o)
}

// ignoreReload answers SIGHUP until its result is called: quick mode has no
// configuration that could be read again, and must not die of it.
func ignoreReload(logger *slog.Logger) (stop func()) {
	hup := make(chan os.Signal, 1)
	ended := make(chan struct{})
	signal.Notify(hup, syscall.SIGHUP)
	go func() {
		defer close(ended)
		for range hup {
			logger.Info("SIGHUP: quick mode has nothing to reload")
		}
	}()
	return func() {
		signal.Stop(hup)
		close(hup)
		<-ended
	}
}
