package daemon

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"repld/config"
	"repld/control"
	"repld/health"
)

// TestPairedAnew puts another standby in the place of one, while etcd decides who serves:
// the lease is the new pair's from then on, and the new standby takes it when the primary's
// machine is gone.
func TestPairedAnew(t *testing.T) {
	t.Parallel()
	e, dir, other := startEtcd(t), t.TempDir(), t.TempDir()
	former := launchWith(t, Options{Config: coordinated(t, dir, "standby", "primary", config.Secondary, e.url), abrupt: true}, "standby")
	primary := launchWith(t, Options{Config: coordinated(t, dir, "primary", "standby", config.Primary, e.url), abrupt: true}, "primary")
	pairUp(t, former, primary)
	primary.is(control.StatusProduction)
	began := time.Now()

	conf := coordinated(t, other, "next", "primary", config.Secondary, e.url)
	conf.Hooks = exclusive(dir, "next", "primary")
	next := launch(t, conf, "next")
	invited, err := next.client.Invite(t.Context(), control.InviteRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := primary.client.Join(t.Context(), control.JoinRequest{Token: invited.Token, Replace: true}); err != nil {
		t.Fatal(err)
	}
	// The services stop until the lease of the new pair is held.
	poll(t, "services have stopped and run again", func() bool {
		stopped := when(t, dir, "primary", "demote", began)
		return !stopped.IsZero() && when(t, dir, "primary", "promote", stopped).After(stopped)
	})
	primary.is(control.StatusProduction)
	next.is(control.StatusStandby)
	write(t, filepath.Join(dir, "primary", "a", "file"), "of the new pair")
	primary.applied("one")
	primary.applied("two")
	next.decides("the peer is heard")
	if c := primary.status().Coordination; !c.Held || c.Holder != "primary" {
		t.Errorf("the node that serves says %+v", c)
	}

	gone := time.Now()
	stop(t, primary)
	if err := os.Remove(filepath.Join(dir, "primary.serves")); err != nil { // with its machine
		t.Fatal(err)
	}
	next.is(control.StatusProductionAlone)
	t.Logf("production again after %v: the lease ends after at most 4 s", time.Since(gone))
	holds(t, filepath.Join(other, "secondary", "a", "file"), "of the new pair")
	if c := former.status(); c.Role == control.RoleProduction || c.Coordination.Held {
		t.Errorf("the former standby is %s and says %+v", c.Role, c.Coordination)
	}
	neverBoth(t, dir)
}

// TestWrongAuthority has a node that trusts another authority than that of etcd's
// certificate: it doesn't serve, and says which of the two is wrong.
func TestWrongAuthority(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	serve, trusted := certificate(t, dir, "etcd"), certificate(t, dir, "other")
	url := tlsServer(t, serve)
	conf := coordinated(t, dir, "primary", "standby", config.Primary, url)
	conf.Coordination.Etcd.CA = trusted
	primary := launch(t, conf, "primary")
	conf = coordinated(t, dir, "standby", "primary", config.Secondary, url)
	conf.Coordination.Etcd.CA = trusted
	standby := launch(t, conf, "standby")
	invited, err := standby.client.Invite(t.Context(), control.InviteRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := primary.client.Join(t.Context(), control.JoinRequest{Token: invited.Token}); err != nil {
		t.Fatal(err)
	}
	primary.raised(health.CoordinationDown, "")
	const want = "certificate signed by unknown authority"
	for _, c := range primary.status().Health {
		if c.Code == health.CoordinationDown && (!strings.Contains(c.Text, want) || c.Hint == "") {
			t.Errorf("the condition says %q, and to %q; want %q", c.Text, c.Hint, want)
		}
	}
	if c := primary.status().Coordination; c.Answers || c.Held || !strings.Contains(c.Error, want) {
		t.Errorf("the node says of its coordination %+v", c)
	}
	primary.raised(health.Held, "")
	primary.is(control.StatusDown)
	if _, err := os.Stat(filepath.Join(dir, "primary.serves")); err == nil {
		t.Error("its services run without a lease")
	}
}

// TestWatchdogThatIsNone: without the watchdog that the configuration names no service
// starts, and the node says why.
func TestWatchdogThatIsNone(t *testing.T) {
	t.Parallel()
	e, dir := startEtcd(t), t.TempDir()
	standby := launch(t, coordinated(t, dir, "standby", "primary", config.Secondary, e.url), "standby")
	conf := coordinated(t, dir, "primary", "standby", config.Primary, e.url)
	conf.Coordination.Watchdog = filepath.Join(dir, "watchdog")
	write(t, conf.Coordination.Watchdog, "")
	primary := launch(t, conf, "primary")
	pairUp(t, standby, primary)
	primary.raised(health.HookFailed, "")
	for _, c := range primary.status().Health {
		if c.Code == health.HookFailed && !strings.Contains(c.Text, conf.Coordination.Watchdog) {
			t.Errorf("the condition says %q, want the device", c.Text)
		}
	}
	if primary.status().Coordination.Watchdog {
		t.Error("a file counts as a watchdog that is armed")
	}
	if _, err := os.Stat(filepath.Join(dir, "primary.serves")); err == nil {
		t.Error("services run without a watchdog")
	}
}

// certificate makes a certificate for 127.0.0.1 that is its own authority: NAME.pem, which it
// returns the path of, and NAME.key.
func certificate(t *testing.T, dir, name string) (path string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, IsCA: true, BasicConstraintsValid: true,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(dir, name+".pem")
	write(t, path, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	write(t, filepath.Join(dir, name+".key"), string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: secret})))
	return path
}

// tlsServer is what etcd is before it answers: one that shows a certificate.
func tlsServer(t *testing.T, cert string) (url string) {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(cert, strings.TrimSuffix(cert, ".pem")+".key")
	if err != nil {
		t.Fatal(err)
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{pair}, NextProtos: []string{"h2"}, MinVersion: tls.VersionTLS12})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	t.Cleanup(func() { cancel(); l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				_ = conn.(*tls.Conn).HandshakeContext(ctx) // the client ends it
			}()
		}
	}()
	return "https://" + l.Addr().String()
}
