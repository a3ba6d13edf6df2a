package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"syscall"
	"time"
)

// ClientOptions are the settings of a [Client].
type ClientOptions struct {
	// Patience is how long the daemon may take to answer a call that has nothing to
	// wait for, before it counts as not answering; 0 = 10 s.
	Patience time.Duration
}

// Client asks a daemon over its control socket. Its errors are [Error]s, with
// [ExitNoDaemon] where no daemon answers; when the caller's context ends they
// wrap the context's error.
type Client struct {
	path     string
	http     *http.Client
	patience time.Duration
}

// NewClient returns a client of the daemon at the socket path. It connects at
// the first call.
func NewClient(path string, o ClientOptions) *Client {
	if o.Patience == 0 {
		o.Patience = 10 * time.Second
	}
	transport := &http.Transport{
		DialContext: func(context.Context, string, string) (net.Conn, error) {
			return dialUnix(path, o.Patience)
		},
		DisableCompression: true,
	}
	return &Client{path: path, http: &http.Client{Transport: transport}, patience: o.Patience}
}

// Path returns the path of the socket.
func (c *Client) Path() string { return c.path }

// Close gives up the idle connection.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Status is [Backend.Status].
func (c *Client) Status(ctx context.Context) (*Status, error) {
	return call[Status](ctx, c, c.patience, http.MethodGet, "/v1/status", nil)
}

// Barrier is [Backend.Barrier]. The daemon sees to req.Timeout; if it does not
// answer some seconds after that, the daemon counts as gone.
func (c *Client) Barrier(ctx context.Context, req BarrierRequest) (*BarrierReply, error) {
	var limit time.Duration
	if req.Timeout > 0 {
		limit = req.Timeout.Duration() + c.patience
	}
	return call[BarrierReply](ctx, c, limit, http.MethodPost, "/v1/barrier", req)
}

// Barriers is [Backend.Barriers].
func (c *Client) Barriers(ctx context.Context, req BarriersRequest) (*BarrierList, error) {
	q := url.Values{}
	if req.Group != "" {
		q.Set("group", req.Group)
	}
	if req.Limit != 0 {
		q.Set("limit", strconv.Itoa(req.Limit))
	}
	if req.Find != "" {
		q.Set("find", req.Find)
	}
	return call[BarrierList](ctx, c, c.patience, http.MethodGet, "/v1/barriers?"+q.Encode(), nil)
}

// Pause is [Backend.Pause]. It waits for a barrier that is being published.
func (c *Client) Pause(ctx context.Context, req ApplyRequest) (*ApplyReply, error) {
	return call[ApplyReply](ctx, c, 0, http.MethodPost, "/v1/pause", req)
}

// Resume is [Backend.Resume].
func (c *Client) Resume(ctx context.Context, req ApplyRequest) (*ApplyReply, error) {
	return call[ApplyReply](ctx, c, 0, http.MethodPost, "/v1/resume", req)
}

// Invite is [Backend.Invite].
func (c *Client) Invite(ctx context.Context, req InviteRequest) (*InviteReply, error) {
	return call[InviteReply](ctx, c, c.patience, http.MethodPost, "/v1/invite", req)
}

// Join is [Backend.Join]. It waits for the other node's answer.
func (c *Client) Join(ctx context.Context, req JoinRequest) (*JoinReply, error) {
	return call[JoinReply](ctx, c, 0, http.MethodPost, "/v1/join", req)
}

// Verify is [Backend.Verify].
func (c *Client) Verify(ctx context.Context, req VerifyRequest, progress func(VerifyProgress)) (*VerifyReport, error) {
	body, err := c.do(ctx, http.MethodPost, "/v1/verify", req)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	var report *VerifyReport
	err = c.lines(ctx, body, func(l line) (bool, error) {
		if l.Progress != nil && progress != nil {
			progress(*l.Progress)
		}
		report = l.Report
		return report != nil, nil
	})
	return report, err
}

// Events is [Backend.Events].
func (c *Client) Events(ctx context.Context, req EventsRequest, each func(Event) error) error {
	q := url.Values{}
	if req.Group != "" {
		q.Set("group", req.Group)
	}
	if req.Since > 0 {
		q.Set("since_seconds", strconv.FormatFloat(req.Since.Seconds(), 'f', -1, 64))
	}
	if req.Follow {
		q.Set("follow", "true")
	}
	body, err := c.do(ctx, http.MethodGet, "/v1/events?"+q.Encode(), nil)
	if err != nil {
		return err
	}
	defer body.Close()
	return c.lines(ctx, body, func(l line) (bool, error) {
		if l.Event == nil {
			return l.Done, nil
		}
		return l.Done, each(*l.Event)
	})
}

// line is one line of a stream; exactly one member is there.
type line struct {
	Progress *VerifyProgress `json:"progress"`
	Report   *VerifyReport   `json:"report"`
	Event    *Event          `json:"event"`
	Done     bool            `json:"done"`
	Error    *Error          `json:"error"`

	RoleProgress *RoleProgress `json:"role_progress"`
	RoleReply    *RoleReply    `json:"role_reply"`
}

// lines reads a stream until each says that it is complete.
func (c *Client) lines(ctx context.Context, body io.Reader, each func(line) (done bool, err error)) error {
	d := json.NewDecoder(body)
	for {
		var l line
		if err := d.Decode(&l); err != nil {
			return c.unreachable(ctx, err)
		}
		if l.Error != nil {
			return l.Error
		}
		if done, err := each(l); done || err != nil {
			return err
		}
	}
}

func call[T any](ctx context.Context, c *Client, limit time.Duration, method, path string, req any) (*T, error) {
	if limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, limit, errNoAnswer)
		defer cancel()
	}
	body, err := c.do(ctx, method, path, req)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	v := new(T)
	if err := json.NewDecoder(body).Decode(v); err != nil {
		return nil, c.unreachable(ctx, err)
	}
	return v, nil
}

// do sends one request and returns the body of an answer that is no failure.
func (c *Client) do(ctx context.Context, method, path string, req any) (io.ReadCloser, error) {
	var body bytes.Buffer
	if req != nil {
		if err := json.NewEncoder(&body).Encode(req); err != nil {
			return nil, err
		}
	}
	r, err := http.NewRequestWithContext(ctx, method, "http://repld"+path, &body)
	if err != nil {
		return nil, err
	}
	resp, err := c.http.Do(r)
	if err != nil {
		return nil, c.unreachable(ctx, err)
	}
	if resp.StatusCode == http.StatusOK {
		return resp.Body, nil
	}
	defer resp.Body.Close()
	var f failure
	if err := json.NewDecoder(resp.Body).Decode(&f); err != nil || f.Error == nil {
		return nil, Errorf(ExitNoDaemon, "what answers on %s with %q is no repld", c.path, resp.Status)
	}
	return nil, f.Error
}

// errNoAnswer is the cause of a context that ended because the daemon was silent.
var errNoAnswer = errors.New("no answer in time")

// unreachable turns an error of the transport into one for the operator.
func (c *Client) unreachable(ctx context.Context, err error) error {
	switch {
	case errors.Is(context.Cause(ctx), errNoAnswer):
		return Errorf(ExitNoDaemon, "the daemon on %s took the call and does not answer", c.path).
			WithHint("it may be stopped or stuck; see its log")
	case ctx.Err() != nil:
		return fmt.Errorf("gave up waiting for the daemon: %w", ctx.Err())
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return Errorf(ExitNoDaemon, "no daemon answers on %s", c.path).
			WithHint("is repld running? --socket or REPLCTL_SOCKET says where its control socket is")
	case errors.Is(err, fs.ErrPermission):
		return Errorf(ExitNoDaemon, "no permission to ask the daemon on %s", c.path).
			WithHint("run replctl as the user that repld runs as, or as root")
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET):
		return Errorf(ExitNoDaemon, "the daemon on %s stopped in the middle of its answer", c.path)
	}
	return Errorf(ExitNoDaemon, "the daemon on %s: %w", c.path, err)
}
