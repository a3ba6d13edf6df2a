package e2e

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"repld/change"
	"repld/internal/testfs"
	"repld/wire"
)

// refused runs a daemon that must not start, and checks what it says.
func refused(t *testing.T, code int, wants []string, args ...string) {
	t.Helper()
	r := command(t, append([]string{"timeout", "60"}, args...)...)
	if r.code != code {
		t.Errorf("%s\nexit code %d, want %d\n%s", strings.Join(args, " "), r.code, code, r.stderr)
	}
	if r.stdout != "" {
		t.Errorf("standard output is %q", r.stdout)
	}
	for _, want := range wants {
		if !strings.Contains(r.stderr, want) {
			t.Errorf("%s\nno %q in\n%s", strings.Join(args, " "), want, r.stderr)
		}
	}
	var told []string
	for line := range strings.Lines(r.stderr) {
		if strings.HasPrefix(line, "repld:") {
			told = append(told, line)
		}
	}
	if len(told) != 1 || strings.Contains(r.stderr, "goroutine") {
		t.Errorf("want one message, found %d in\n%s", len(told), r.stderr)
	}
	t.Logf("%s", r.stderr)
}

func repld(args ...string) []string {
	return append([]string{filepath.Join(bin, "repld")}, args...)
}

// fakeToken is well made and leads nowhere.
func fakeToken(expires time.Time) string {
	return wire.Token{Address: "127.0.0.1:9", Key: wire.Fingerprint{1}, Expires: expires.UTC().Truncate(time.Second)}.String()
}

func TestRefusesDirectories(t *testing.T) {
	t.Parallel()
	dir := tempDir(t)
	file, empty, state := filepath.Join(dir, "file"), filepath.Join(dir, "empty"), filepath.Join(dir, "state")
	write(t, file, "a file")
	mkdirs(t, empty)
	token := fakeToken(time.Now().Add(time.Hour))
	for _, role := range []struct{ name, flag, value string }{{"standby", "--listen", "127.0.0.1:0"}, {"primary", "--join", token}} {
		run := func(dir, state string) []string {
			return repld(role.name, dir, "--state", state, role.flag, role.value)
		}
		refused(t, 2, []string{"no such file", dir + "/none", "create the directory"}, run(dir+"/none", state)...)
		refused(t, 2, []string{"not a directory", file}, run(file, state)...)
		refused(t, 2, []string{"inside the replicated tree", empty, "--state"}, run(empty, filepath.Join(empty, "state"))...)
		refused(t, 2, []string{"inside the state directory", "--state"}, run(empty, dir)...)
	}
	if _, err := os.Stat(dir + "/none"); err == nil {
		t.Error("a directory was made")
	}
	if entries, err := os.ReadDir(empty); err != nil || len(entries) > 0 {
		t.Errorf("%s holds %v, %v", empty, entries, err)
	}
	if _, err := os.Stat(state); err == nil {
		t.Error("a state directory was made")
	}
}

func TestRefusesUnreadable(t *testing.T) {
	t.Parallel()
	testfs.NeedRoot(t)
	setpriv := testfs.NeedProgram(t, "setpriv", "util-linux")
	dir := tempDir(t)
	secret, home := filepath.Join(dir, "secret"), filepath.Join(dir, "home")
	mkdirs(t, secret, home)
	if err := os.Chmod(secret, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(home, 65534, 65534); err != nil {
		t.Fatal(err)
	}
	for _, role := range []string{"standby", "primary"} {
		args := append([]string{setpriv, "--reuid", "65534", "--clear-groups"}, repld(role, secret, "--state", home+"/"+role)...)
		refused(t, 2, []string{"permission denied", secret, "run as root"}, args...)
	}
}

func TestRefusesTokens(t *testing.T) {
	t.Parallel()
	p := newPair(t, 1)
	write(t, p.from+"/a", "a")
	p.equal()
	other := filepath.Join(p.dir, "other")
	mkdirs(t, other)
	join := func(token string) []string {
		return repld("primary", other, "--state", filepath.Join(p.dir, "third"), "--join", token)
	}
	refused(t, 2, []string{"not a join token", "copy the whole line"}, join("nonsense")...)
	good := fakeToken(time.Now().Add(time.Hour))
	refused(t, 2, []string{"damaged"}, join(good[:len(good)-3]+"aaa")...)
	refused(t, 4, []string{"expired", "new token"}, join(fakeToken(time.Now().Add(-time.Minute)))...)
	refused(t, 2, []string{"--join is needed", "repld standby DIR"}, repld("primary", other, "--state", filepath.Join(p.dir, "third"))...)

	// A directory that was refused is free for the other role.
	third := newNode(t, "standby", other, filepath.Join(p.dir, "third"), "--listen", freePort(t))
	third.start()
	third.token()
	third.stop()
	if entries, err := os.ReadDir(other); err != nil || len(entries) > 0 {
		t.Errorf("%s holds %v, %v", other, entries, err)
	}

	// An invitation works once: the standby of the pair has used its own.
	used := newNode(t, "standby", other, filepath.Join(p.dir, "fourth"), "--listen", freePort(t))
	used.start()
	token := used.token()
	fifth := newNode(t, "primary", p.from, filepath.Join(p.dir, "fifth"), "--join", token)
	fifth.start()
	fifth.up()
	fifth.must("barrier", "--wait", "applied", "--timeout", patience.String())
	refused(t, 4, []string{"refused", "token"}, repld("primary", other+"/..", "--state", filepath.Join(p.dir, "../sixth-"+filepath.Base(p.dir)), "--join", token)...)
	os.RemoveAll(filepath.Join(p.dir, "../sixth-"+filepath.Base(p.dir)))
	sameTrees(t, p.from, other)

	// The token that paired a primary may stay in its start script; another one is
	// not ignored.
	fifth.stop()
	refused(t, 4, []string{"paired with", "another node", "leave --join out"}, repld("primary", p.from, "--state", fifth.state, "--join", good)...)
	fifth.start("--join", token)
	fifth.up()
	p.equal()
}

// TestPairedAnew has both state directories lost: the trees are used as they are.
func TestPairedAnew(t *testing.T) {
	t.Parallel()
	p := newPair(t, 1)
	e := newEditor(t, p.from, 1)
	for range 200 {
		e.step()
	}
	write(t, p.from+"/large", noise(t, 1, 8<<20))
	p.equal()
	for _, n := range []*node{p.primary, p.standby} {
		n.stop()
		if err := os.RemoveAll(n.state); err != nil {
			t.Fatal(err)
		}
	}
	write(t, p.from+"/new", "new")
	p.start(1)
	p.equal()
	s, err := p.primary.status()
	if err != nil {
		t.Fatal(err)
	}
	if sent := s.Groups[0].Sent.Bytes; sent > 2<<20 {
		t.Errorf("%d bytes crossed the link for trees that were almost equal", sent)
	}
}

func TestRefusesExpiredInvitation(t *testing.T) {
	t.Parallel()
	dir := tempDir(t)
	from, to := filepath.Join(dir, "from"), filepath.Join(dir, "to")
	mkdirs(t, from, to)
	s := newNode(t, "standby", to, filepath.Join(dir, "s"), "--listen", freePort(t))
	s.start()
	token, err := wire.ParseToken(s.token(), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	s.stop()
	// The hour is over by the standby's clock, and not yet by the primary's.
	invites := filepath.Join(s.state, "invites.yaml")
	content, err := os.ReadFile(invites)
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for line := range strings.Lines(string(content)) {
		if strings.HasPrefix(line, "#") {
			continue // the digest; the file is changed by hand
		}
		if before, _, ok := strings.Cut(line, "expires:"); ok {
			line = before + "expires: " + time.Now().Add(-time.Minute).UTC().Format(time.RFC3339) + "\n"
		}
		lines = append(lines, line)
	}
	write(t, invites, strings.Join(lines, ""))
	s.start()
	s.token()
	refused(t, 4, []string{"expired", "join token"}, repld("primary", from, "--state", dir+"/p", "--join", token.String())...)
}

func TestRefusesTakenPort(t *testing.T) {
	t.Parallel()
	dir := tempDir(t)
	mkdirs(t, dir+"/to")
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer pc.Close()
	refused(t, 1, []string{"address already in use", pc.LocalAddr().String(), "--listen"},
		repld("standby", dir+"/to", "--state", dir+"/s", "--listen", pc.LocalAddr().String())...)
}

func TestRefusesLockedState(t *testing.T) {
	t.Parallel()
	p := newPair(t, 1)
	refused(t, 4, []string{"in use by another repld", p.standby.state}, repld("standby", p.to, "--state", p.standby.state, "--listen", "127.0.0.1:0")...)
	refused(t, 4, []string{"in use by another repld", p.primary.state}, repld("primary", p.from, "--state", p.primary.state)...)
	write(t, p.from+"/a", "a")
	p.equal()
}

func TestRefusesSwappedCommands(t *testing.T) {
	t.Parallel()
	p := newPair(t, 1)
	write(t, p.from+"/a", "a")
	p.equal()
	p.primary.stop()
	p.standby.stop()
	before := describe(t, p.from)
	refused(t, 4, []string{"belongs to repld primary", "swapped"}, repld("standby", p.from, "--state", p.primary.state, "--listen", "127.0.0.1:0")...)
	refused(t, 4, []string{"belongs to repld standby", "swapped"}, repld("primary", p.to, "--state", p.standby.state)...)
	refused(t, 4, []string{"belongs to repld standby", "swapped"}, repld("primary", p.to, "--state", p.standby.state, "--join", fakeToken(time.Now().Add(time.Hour)))...)
	if !slices.Equal(describe(t, p.from), before) || !slices.Equal(describe(t, p.to), before) {
		t.Error("a tree was changed")
	}
	p.standby.start()
	p.primary.start()
	p.primary.up()
	p.equal()
}

// TestRefusesVersions has peers that speak only a later wire format.
func TestRefusesVersions(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	later := wire.Hello{MinVersion: 2, MaxVersion: 3, Software: "9.0", Node: "later", Role: wire.RoleProduction, Epoch: change.Epoch(1), Designated: wire.DesignatedPrimary}

	// A primary joins.
	dir := tempDir(t)
	mkdirs(t, dir+"/from", dir+"/to")
	s := newNode(t, "standby", dir+"/to", dir+"/s", "--listen", freePort(t))
	s.start()
	token, err := wire.ParseToken(s.token(), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	mkdirs(t, dir+"/key")
	id, err := wire.LoadOrCreateIdentity(dir + "/key")
	if err != nil {
		t.Fatal(err)
	}
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if _, err = wire.Dial(ctx, pc, token.Address, wire.DialOptions{Identity: id, Join: &token, Hello: later}); err == nil || !strings.Contains(err.Error(), "speaks 2 to 3") {
		t.Errorf("a primary of another version got %v", err)
	}
	// The invitation is still good.
	p := newNode(t, "primary", dir+"/from", dir+"/p", "--join", token.String())
	p.start()
	p.up()
	p.must("barrier", "--wait", "applied", "--timeout", patience.String())

	// A standby that was upgraded too far: the primary says so, and goes on with its work.
	s.stop()
	id, err = wire.LoadOrCreateIdentity(s.state)
	if err != nil {
		t.Fatal(err)
	}
	addr, err := net.ResolveUDPAddr("udp", token.Address)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.ListenUDP("udp", addr)
	if err != nil {
		t.Fatal(err)
	}
	later.Role, later.Designated = wire.RoleStandby, wire.DesignatedSecondary
	invites, err := wire.NewInvites(wire.InvitesOptions{})
	if err != nil {
		t.Fatal(err)
	}
	fake, err := wire.Listen(listener, wire.ListenOptions{Identity: id, Hello: func() wire.Hello { return later }, Invites: invites,
		Peer:   func() (wire.Fingerprint, bool) { return peerKey(t, p), true },
		Joined: func(context.Context, wire.Joiner) error { return nil }})
	if err != nil {
		t.Fatal(err)
	}
	defer fake.Close()
	p.unwell("peer-version", "wire format")

	// It refuses to be joined by one of ours.
	token, err = invites.Issue(token.Address, id.Fingerprint())
	if err != nil {
		t.Fatal(err)
	}
	refused(t, 4, []string{"speaks 2 to 3", "upgrade"}, repld("primary", dir+"/to", "--state", dir+"/q", "--join", token.String())...)
}

// peerKey is the key of a node's peer file on the other side: its own key.
func peerKey(t *testing.T, n *node) wire.Fingerprint {
	id, err := wire.LoadOrCreateIdentity(n.state)
	if err != nil {
		t.Fatal(err)
	}
	return id.Fingerprint()
}

// unwell waits for a health condition, and wants a hint with it.
func (n *node) unwell(code, text string) {
	n.t.Helper()
	poll(n.t, "there is a condition "+code, func() error {
		n.alive()
		s, err := n.status()
		if err != nil {
			return err
		}
		var found []string
		for _, c := range s.Health {
			if string(c.Code) == code && strings.Contains(c.Text, text) {
				if c.Hint == "" || c.Since.IsZero() {
					n.t.Errorf("condition without hint or time: %+v", c)
				}
				return nil
			}
			found = append(found, string(c.Code)+": "+c.Text)
		}
		return errorList(found)
	})
}

// well waits until there is no condition.
func (n *node) well() {
	n.t.Helper()
	poll(n.t, "all is well", func() error {
		n.alive()
		s, err := n.status()
		if err != nil {
			return err
		}
		var found []string
		for _, c := range s.Health {
			found = append(found, string(c.Code)+": "+c.Text)
		}
		if len(found) > 0 {
			return errorList(found)
		}
		return nil
	})
}

type errorList []string

func (e errorList) Error() string { return "found " + strings.Join(e, "; ") }
