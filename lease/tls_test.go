package lease

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

	"repld/internal/testfs"
)

// authority signs certificates into files of its directory.
type authority struct {
	t    *testing.T
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	n    int64
}

func newAuthority(t *testing.T) *authority {
	a := &authority{t: t, dir: t.TempDir()}
	a.issue("ca")
	return a
}

func (a *authority) path(name string) string { return filepath.Join(a.dir, name) }

// issue makes NAME.pem and NAME.key, signed by the first one.
func (a *authority) issue(name string) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	a.n++
	c := &x509.Certificate{
		SerialNumber: big.NewInt(a.n), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}, BasicConstraintsValid: true, IsCA: a.cert == nil,
	}
	if a.cert == nil {
		a.cert, a.key = c, key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, a.cert, &key.PublicKey, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	secret, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	for path, block := range map[string]*pem.Block{name + ".pem": {Type: "CERTIFICATE", Bytes: der}, name + ".key": {Type: "EC PRIVATE KEY", Bytes: secret}} {
		if err := os.WriteFile(a.path(path), pem.EncodeToMemory(block), 0o600); err != nil {
			a.t.Fatal(err)
		}
	}
}

// Both ends show certificates; who has another one, or none, gets nowhere.
func TestEtcdWithCertificates(t *testing.T) {
	t.Parallel()
	a, other := newAuthority(t), newAuthority(t)
	a.issue("server")
	a.issue("node")
	other.issue("node")
	m := &member{name: "m", dir: filepath.Join(t.TempDir(), "m"), url: "https://" + freePort(t), peer: "http://" + freePort(t), more: []string{
		"--cert-file", a.path("server.pem"), "--key-file", a.path("server.key"), "--client-cert-auth", "--trusted-ca-file", a.path("ca.pem"),
	}}
	m.cluster = "m=" + m.peer
	m.start(t, testfs.NeedProgram(t, "etcd", "etcd-server"))
	look := func(conf *tls.Config) error {
		e, err := openEtcd([]string{m.url}, "pair", conf, time.Second)
		if err != nil {
			t.Fatal(err)
		}
		defer e.close()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, _, err = e.who(ctx)
		return err
	}
	load := func(ca, cert, key string) *tls.Config {
		conf, err := TLS(ca, cert, key)
		if err != nil {
			t.Fatal(err)
		}
		return conf
	}
	good := load(a.path("ca.pem"), a.path("node.pem"), a.path("node.key"))
	waitFor(t, "etcd answers", func() bool { return look(good) == nil })
	for what, c := range map[string]struct {
		conf *tls.Config
		want string
	}{
		"no certificate":         {load(a.path("ca.pem"), "", ""), "certificate"},
		"another's certificate":  {load(a.path("ca.pem"), other.path("node.pem"), other.path("node.key")), "certificate"},
		"another authority":      {load(other.path("ca.pem"), a.path("node.pem"), a.path("node.key")), "certificate signed by unknown authority"},
		"the system's authority": {load("", a.path("node.pem"), a.path("node.key")), "certificate signed by unknown authority"},
	} {
		if err := look(c.conf); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("with %s: %v, want %q", what, err, c.want)
		}
	}
	for want, files := range map[string][3]string{
		"no such file":                {a.path("none"), "", ""},
		"found no certificate":        {a.path("ca.key"), "", ""},
		"private key does not match":  {"", a.path("node.pem"), a.path("server.key")},
		"failed to find any PEM data": {"", m.dir + ".log", a.path("server.key")},
	} {
		if _, err := TLS(files[0], files[1], files[2]); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("found %v, want %q", err, want)
		}
	}
}
