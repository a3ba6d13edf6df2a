package packaging

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"repld/internal/testfs"
)

// elastic answers as far as the example asks: what a server of version 8 does is in its
// documentation ("Snapshot and restore", "cat snapshots").
type elastic struct {
	mu        sync.Mutex
	calls     []string
	snapshots string   // lines of id and status, newest first
	indices   []string // that are there
	failed    int      // shards that a restore doesn't restore
	readonly  any      // of the repository
	login     string
}

func (e *elastic) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.calls = append(e.calls, r.Method+" "+r.URL.Path)
	_, e.login, _ = r.BasicAuth()
	var body struct {
		Settings map[string]any `json:"settings"`
		Indices  string         `json:"indices"`
	}
	if r.Method == http.MethodPut || r.Method == http.MethodPost {
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
	}
	switch call := r.Method + " " + r.URL.Path; {
	case call == "GET /_cat/snapshots/shop" && r.URL.Query().Get("s") == "end_epoch:desc":
		fmt.Fprint(w, e.snapshots)
	case call == "PUT /_snapshot/shop" && body.Settings["location"] == "/srv/shop/snapshots":
		e.readonly = body.Settings["readonly"]
		fmt.Fprint(w, `{"acknowledged":true}`)
	case strings.HasPrefix(call, "GET /_snapshot/shop/") && strings.Contains(e.snapshots, strings.TrimPrefix(r.URL.Path, "/_snapshot/shop/")+" "):
		fmt.Fprint(w, `{"snapshots":[{}]}`)
	case call == "GET /_cat/indices/shop-*":
		fmt.Fprintln(w, strings.Join(e.indices, "\n"))
	case r.Method == http.MethodDelete && !strings.Contains(r.URL.Path, "*"): // of wildcards servers want more
		fmt.Fprint(w, `{"acknowledged":true}`)
		var left []string
		for _, index := range e.indices {
			if "/"+index != r.URL.Path {
				left = append(left, index)
			}
		}
		e.indices = left
	case strings.HasSuffix(call, "/_restore") && body.Indices == "shop-*" && r.URL.Query().Get("wait_for_completion") == "true":
		if len(e.indices) > 0 { // an open index of that name can't be restored
			http.Error(w, `{"error":"snapshot_restore_exception"}`, http.StatusInternalServerError)
			return
		}
		fmt.Fprintf(w, `{"snapshot":{"indices":["shop-a"],"shards":{"total":2,"failed":%d,"successful":%d}}}`, e.failed, 2-e.failed)
		e.indices = []string{"shop-a"}
	case call == "GET /_cluster/health":
		fmt.Fprint(w, `{"status":"green"}`)
	default:
		http.Error(w, `{"error":"no such thing: `+call+`"}`, http.StatusNotFound)
	}
}

// TestElasticsearchExample calls the example as repld does.
func TestElasticsearchExample(t *testing.T) {
	testfs.NeedProgram(t, "curl", "curl")
	e := &elastic{}
	server := httptest.NewServer(e)
	defer server.Close()
	netrc := filepath.Join(t.TempDir(), "netrc")
	run := func(action, position string) (string, error) {
		t.Helper()
		e.mu.Lock()
		e.calls = nil
		e.mu.Unlock()
		cmd := exec.Command("examples/elasticsearch-snapshots", server.URL, "shop", "/srv/shop/snapshots", "shop-*")
		cmd.Env = append(os.Environ(), "REPLD_ACTION="+action, "REPLD_POSITION="+position, "REPLD_NETRC="+netrc)
		var stderr strings.Builder
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil {
			err = fmt.Errorf("%w: %s", err, stderr.String())
		}
		return string(out), err
	}
	fails := func(action, position, says string) {
		t.Helper()
		if out, err := run(action, position); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s %s: found %q, %v; want %q", action, position, out, err, says)
		}
	}
	works := func(action, position, prints string) {
		t.Helper()
		if out, err := run(action, position); err != nil || out != prints {
			t.Errorf("%s %s: found %q, %v; want %q", action, position, out, err, prints)
		}
	}

	works("position", "", "none\n")
	e.snapshots = "snap-3 IN_PROGRESS 0\nsnap-2 SUCCESS 200\nsnap-1 SUCCESS 100\n"
	works("position", "", "snap-2\n")
	if err := os.WriteFile(netrc, []byte("machine 127.0.0.1 login repld password secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	works("health", "", "")
	if e.login != "secret" {
		t.Errorf("the login was %q", e.login)
	}

	works("hold", "snap-1", "")
	if e.readonly != true {
		t.Errorf("while it stands by the repository has readonly %v", e.readonly)
	}
	works("advance", "none", "")
	works("advance", "snap-2", "")
	fails("advance", "snap-9", "no such thing: GET /_snapshot/shop/snap-9")

	e.indices = []string{"shop-a", "shop-b"} // of the time when this node was production
	e.failed = 1
	fails("promote", "snap-2", "not all was restored")
	if e.readonly != true {
		t.Error("a promotion that failed has made the repository writable")
	}
	e.failed = 0
	works("promote", "snap-2", "")
	if strings.Join(e.indices, " ") != "shop-a" || e.readonly != false {
		t.Errorf("after the promotion there is %v, and readonly is %v", e.indices, e.readonly)
	}
	e.readonly = true
	works("promote", "none", "")
	if len(e.indices) != 1 || e.readonly != false {
		t.Errorf("a promotion without any snapshot left %v, readonly %v", e.indices, e.readonly)
	}
	fails("seed", "", "want position, hold, advance, promote or health")
	server.Close()
	fails("position", "", "Failed to connect")
}
