package replctl

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"repld/cmd/internal/cli"
	"repld/control"
)

// tokenLimit bounds what is read as a join token, in bytes.
const tokenLimit = 4096

func (a *app) inviteCommand() *cobra.Command {
	var req control.InviteRequest
	cmd := &cobra.Command{
		PreRunE: a.ofNode,
		Use:     "invite", Short: "make a join token, to pair another node with this one", Args: cli.Args(),
		Long: `invite prints one line, a join token, that works once and for one hour. Hand it to "replctl join" on
the other node. It carries an address of this node, the fingerprint of its key, and a secret.`,
	}
	cmd.Flags().StringVar(&req.Address, "address", "", "`host:port` at which the other node reaches this one (default where it listens)")
	cmd.Flags().BoolVar(&req.Replace, "replace", false, "let the node that joins take the place of the present peer")
	cmd.RunE = a.run(func(ctx context.Context, c *control.Client) error {
		reply, err := c.Invite(ctx, req)
		if err != nil {
			return err
		}
		return a.print(reply, func(w io.Writer) error { _, err := fmt.Fprintln(w, reply.Token); return err })
	})
	return cmd
}

func (a *app) joinCommand() *cobra.Command {
	var req control.JoinRequest
	cmd := &cobra.Command{
		PreRunE: a.ofNode,
		Use:     "join TOKEN|@FILE|-", Short: "pair this node with the one that made the token", Args: cli.Args("TOKEN|@FILE|-"),
		Long: `join pairs the two nodes: each stores the other's key, and nothing else is accepted from then on.
"@FILE" reads the token from a file, "-" from standard input, which keeps it out of the list of processes.`,
	}
	cmd.Flags().BoolVar(&req.Replace, "replace", false, "let that node take the place of the present peer")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		token, err := readToken(args[0], cmd.InOrStdin())
		if err != nil {
			return err
		}
		req.Token = token
		return a.run(func(ctx context.Context, c *control.Client) error {
			reply, err := c.Join(ctx, req)
			if err != nil {
				return err
			}
			return a.print(reply, func(w io.Writer) error {
				_, err := fmt.Fprintf(w, "paired with %s at %s\n", reply.Peer, reply.Address)
				return err
			})
		})(cmd, nil)
	}
	return cmd
}

// readToken reads a join token from where the operator says it is.
func readToken(from string, stdin io.Reader) (string, error) {
	text := []byte(from)
	var err error
	switch file, isFile := strings.CutPrefix(from, "@"); {
	case from == "-":
		text, err = readLimited(stdin)
	case isFile:
		var f *os.File
		if f, err = os.Open(file); err == nil {
			text, err = readLimited(f)
			f.Close()
		}
	}
	if err != nil {
		return "", control.Errorf(control.ExitUsage, "join token from %s: %w", from, err)
	}
	// What the other node prints may be given as it stands.
	text = bytes.TrimSpace(bytes.TrimPrefix(bytes.TrimSpace(text), []byte("join token:")))
	if len(bytes.Fields(text)) != 1 {
		return "", control.Errorf(control.ExitUsage, "found %d words, want one join token", len(bytes.Fields(text))).
			WithHint("replctl invite on the other node prints one")
	}
	return string(text), nil
}

func readLimited(r io.Reader) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, tokenLimit+1))
	if err == nil && len(b) > tokenLimit {
		err = errors.New("too long for a join token")
	}
	return b, err
}
