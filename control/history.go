package control

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"repld/change"
)

// HistoryBackend is the part of [Backend] that goes back: what a standby keeps of
// replaced content, and what was set aside. Each call is refused on a primary with
// [ExitRefused].
type HistoryBackend interface {
	// Rewind makes a standby's trees what they were at a retained barrier, paused.
	Rewind(ctx context.Context, req RewindRequest) (*RewindReply, error)
	// Find lists the barriers with different versions of the path req.Find, newest
	// first.
	Find(ctx context.Context, req BarriersRequest) (*BarrierList, error)
	// Restore takes one path out of a retained barrier.
	Restore(ctx context.Context, req RestoreRequest) (*RestoreReply, error)
	// Salvages lists what was set aside, newest first; with req.ID one set with its
	// entries.
	Salvages(ctx context.Context, req SalvagesRequest) (*SalvageList, error)
	// RestoreSalvage copies what was set aside.
	RestoreSalvage(ctx context.Context, req RestoreSalvageRequest) (*RestoreReply, error)
	// RemoveSalvage removes what was set aside for good, and returns what it was.
	RemoveSalvage(ctx context.Context, req RemoveSalvageRequest) (*SalvageSet, error)
}

// RewindRequest asks for the state at a retained barrier.
type RewindRequest struct {
	Group string           `json:"group,omitempty"`
	To    change.BarrierID `json:"to"`
}

// RewindReply says where a group is now.
type RewindReply struct {
	Group   string            `json:"group"`
	Barrier Barrier           `json:"barrier"`
	Newest  *change.BarrierID `json:"newest,omitempty"` // where resume goes first
	Paused  bool              `json:"paused"`
}

// RestoreRequest asks for one path of a retained barrier.
type RestoreRequest struct {
	Group string           `json:"group,omitempty"`
	Path  string           `json:"path"` // "tree/path", absolute, or below the only tree
	At    change.BarrierID `json:"at"`
	To    string           `json:"to"` // an absolute path of a directory
}

// RestoreReply says what was restored.
type RestoreReply struct {
	Group        string   `json:"group"`
	Targets      []string `json:"targets"` // absolute paths
	Files        uint64   `json:"files"`
	Bytes        uint64   `json:"bytes"`
	NotPermitted []string `json:"not_permitted"` // metadata that the daemon may not set
}

// SalvagesRequest asks for what was set aside.
type SalvagesRequest struct {
	Group string
	ID    string // of one set; "" = all, without their entries
	Limit int    // of entries; 0 = all
}

// SalvageList is what was set aside, newest first.
type SalvageList struct {
	Group string       `json:"group"`
	Sets  []SalvageSet `json:"sets"`
}

// SalvageSet is what was set aside together.
type SalvageSet struct {
	ID      string         `json:"id"`
	At      Time           `json:"at"`
	By      string         `json:"by"`
	Reasons []string       `json:"reasons"`
	Count   uint64         `json:"count"`
	Bytes   uint64         `json:"bytes"`
	Entries []SalvageEntry `json:"entries,omitempty"`
}

// SalvageEntry is one object that was set aside.
type SalvageEntry struct {
	At     Time   `json:"at"`
	Path   string `json:"path"` // where it was, "tree/path"
	Kept   string `json:"kept"` // where it is, absolute
	Kind   string `json:"kind"`
	Bytes  uint64 `json:"bytes"`
	Mtime  Time   `json:"mtime"`
	Reason string `json:"reason"`
}

// RestoreSalvageRequest asks for a copy of what was set aside.
type RestoreSalvageRequest struct {
	Group string `json:"group,omitempty"`
	ID    string `json:"id"`
	Path  string `json:"path,omitempty"` // "" = all of the set
	To    string `json:"to"`             // an absolute path of a directory
}

// RemoveSalvageRequest asks to remove what was set aside, for good.
type RemoveSalvageRequest struct {
	Group string `json:"group,omitempty"`
	ID    string `json:"id"` // of one set
}

// PathVersion is what a path was at a barrier.
type PathVersion struct {
	Kind    string        `json:"kind"` // "absent" if there was none
	Present bool          `json:"present"`
	Bytes   *uint64       `json:"bytes,omitempty"`
	Mtime   Time          `json:"mtime,omitzero"`
	Digest  change.Digest `json:"digest,omitzero"`
}

// KindAbsent is the kind of what isn't there.
const KindAbsent = "absent"

func (s *Server) handleHistory(mux *http.ServeMux) {
	mux.HandleFunc("POST /v1/rewind", answer(s.rewind))
	mux.HandleFunc("POST /v1/restore", answer(s.restore))
	mux.HandleFunc("GET /v1/salvage", answer(s.salvages))
	mux.HandleFunc("GET /v1/salvage/{id}", answer(s.salvages))
	mux.HandleFunc("POST /v1/salvage/restore", answer(s.restoreSalvage))
	mux.HandleFunc("POST /v1/salvage/remove", answer(s.removeSalvage))
}

func (s *Server) rewind(r *http.Request) (*RewindReply, error) {
	var req RewindRequest
	err := decode(r, &req)
	if err == nil && req.To.IsZero() {
		err = Errorf(ExitUsage, "to which barrier? the request names none")
	}
	if err == nil {
		req.Group, err = s.group(r.Context(), req.Group)
	}
	if err != nil {
		return nil, err
	}
	return s.backend.Rewind(r.Context(), req)
}

// checkTarget sees to it that a daemon isn't sent to a directory of its own choice.
func checkTarget(dir string) error {
	if !strings.HasPrefix(dir, "/") {
		return Errorf(ExitUsage, "the target is %q: want an absolute path", dir)
	}
	return nil
}

func (s *Server) restore(r *http.Request) (*RestoreReply, error) {
	var req RestoreRequest
	err := decode(r, &req)
	if err == nil {
		err = checkTarget(req.To)
	}
	if err == nil && (req.At.IsZero() || req.Path == "") {
		err = Errorf(ExitUsage, "the request names no path or no barrier")
	}
	if err == nil {
		req.Group, err = s.group(r.Context(), req.Group)
	}
	if err != nil {
		return nil, err
	}
	return complete(s.backend.Restore(r.Context(), req))
}

func complete(reply *RestoreReply, err error) (*RestoreReply, error) {
	if err == nil && reply.Targets == nil {
		reply.Targets = []string{}
	}
	if err == nil && reply.NotPermitted == nil {
		reply.NotPermitted = []string{}
	}
	return reply, err
}

func (s *Server) salvages(r *http.Request) (*SalvageList, error) {
	req := SalvagesRequest{ID: r.PathValue("id")}
	var err error
	if v := r.URL.Query().Get("limit"); v != "" {
		if req.Limit, err = strconv.Atoi(v); err != nil || req.Limit < 0 {
			return nil, Errorf(ExitUsage, "limit is %q: want a number, or 0 for all", v)
		}
	}
	if req.Group, err = s.group(r.Context(), r.URL.Query().Get("group")); err != nil {
		return nil, err
	}
	list, err := s.backend.Salvages(r.Context(), req)
	if err == nil && list.Sets == nil {
		list.Sets = []SalvageSet{}
	}
	return list, err
}

func (s *Server) restoreSalvage(r *http.Request) (*RestoreReply, error) {
	var req RestoreSalvageRequest
	err := decode(r, &req)
	if err == nil {
		err = checkTarget(req.To)
	}
	if err == nil && req.ID == "" {
		err = Errorf(ExitUsage, "the request names no salvage")
	}
	if err == nil {
		req.Group, err = s.group(r.Context(), req.Group)
	}
	if err != nil {
		return nil, err
	}
	return complete(s.backend.RestoreSalvage(r.Context(), req))
}

func (s *Server) removeSalvage(r *http.Request) (*SalvageSet, error) {
	var req RemoveSalvageRequest
	err := decode(r, &req)
	if err == nil && req.ID == "" {
		err = Errorf(ExitUsage, "the request names no salvage")
	}
	if err == nil {
		req.Group, err = s.group(r.Context(), req.Group)
	}
	if err != nil {
		return nil, err
	}
	set, err := s.backend.RemoveSalvage(r.Context(), req)
	if err == nil && set.Reasons == nil {
		set.Reasons = []string{}
	}
	return set, err
}

// Rewind is [HistoryBackend.Rewind]. It takes as long as the files that differ do.
func (c *Client) Rewind(ctx context.Context, req RewindRequest) (*RewindReply, error) {
	return call[RewindReply](ctx, c, 0, http.MethodPost, "/v1/rewind", req)
}

// Restore is [HistoryBackend.Restore].
func (c *Client) Restore(ctx context.Context, req RestoreRequest) (*RestoreReply, error) {
	return call[RestoreReply](ctx, c, 0, http.MethodPost, "/v1/restore", req)
}

// Salvages is [HistoryBackend.Salvages].
func (c *Client) Salvages(ctx context.Context, req SalvagesRequest) (*SalvageList, error) {
	q := url.Values{}
	if req.Group != "" {
		q.Set("group", req.Group)
	}
	if req.Limit != 0 {
		q.Set("limit", strconv.Itoa(req.Limit))
	}
	path := "/v1/salvage"
	if req.ID != "" {
		path += "/" + url.PathEscape(req.ID)
	}
	return call[SalvageList](ctx, c, 0, http.MethodGet, path+"?"+q.Encode(), nil)
}

// RestoreSalvage is [HistoryBackend.RestoreSalvage].
func (c *Client) RestoreSalvage(ctx context.Context, req RestoreSalvageRequest) (*RestoreReply, error) {
	return call[RestoreReply](ctx, c, 0, http.MethodPost, "/v1/salvage/restore", req)
}

// RemoveSalvage is [HistoryBackend.RemoveSalvage].
func (c *Client) RemoveSalvage(ctx context.Context, req RemoveSalvageRequest) (*SalvageSet, error) {
	return call[SalvageSet](ctx, c, 0, http.MethodPost, "/v1/salvage/remove", req)
}
