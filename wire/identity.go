package wire

import (
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"time"
)

// KeyFile is the name of the file with a node's private key (PKCS #8, PEM).
const KeyFile = "key.pem"

const keyBlock = "PRIVATE KEY"

// Identity is a node's key pair with a self-signed certificate for it.
type Identity struct {
	private     ed25519.PrivateKey
	certificate tls.Certificate
	fingerprint Fingerprint
}

// Fingerprint names the identity's key.
func (id *Identity) Fingerprint() Fingerprint { return id.fingerprint }

// IdentityError says what is wrong with a node's key file. Nothing was changed.
type IdentityError struct {
	Path string
	Err  error
	Hint string
}

func (e *IdentityError) Error() string { return fmt.Sprintf("key file %s: %v", e.Path, e.Err) }
func (e *IdentityError) Unwrap() error { return e.Err }

// LoadOrCreateIdentity reads <dir>/key.pem and makes it if it doesn't exist, with
// dir (0700). An existing file is never written, nor used if others than its owner
// may read it: a key that somebody else may know pairs with anybody. Of two
// processes that create it at once both get the same key. Errors are
// *[IdentityError].
func LoadOrCreateIdentity(dir string) (*Identity, error) {
	path := filepath.Join(dir, KeyFile)
	id, err := loadIdentity(path)
	if errors.Is(err, fs.ErrNotExist) {
		if err := createKey(dir, path); err != nil {
			return nil, &IdentityError{Path: path, Err: err, Hint: "the state directory must exist and be writable"}
		}
		id, err = loadIdentity(path)
	}
	return id, err
}

func loadIdentity(path string) (*Identity, error) {
	const lost = "restore the file from a backup, or remove it and pair the nodes anew"
	info, err := os.Stat(path)
	if err != nil {
		return nil, &IdentityError{Path: path, Err: err, Hint: "check the state directory and its owner"}
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return nil, &IdentityError{Path: path, Err: fmt.Errorf("mode %04o lets others than its owner use it, want 0600", mode),
			Hint: "chmod 600 " + path}
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, &IdentityError{Path: path, Err: err, Hint: "check the file's owner"}
	}
	block, _ := pem.Decode(text)
	if block == nil || block.Type != keyBlock {
		return nil, &IdentityError{Path: path, Err: fmt.Errorf("no PEM block %q in %d bytes", keyBlock, len(text)), Hint: lost}
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, &IdentityError{Path: path, Err: err, Hint: lost}
	}
	private, ok := key.(ed25519.PrivateKey)
	if !ok {
		return nil, &IdentityError{Path: path, Err: fmt.Errorf("a key of type %T, want Ed25519", key), Hint: lost}
	}
	return newIdentity(private)
}

func newIdentity(private ed25519.PrivateKey) (*Identity, error) {
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: "repld"},
		// Keys are pinned, and clocks may be wrong: the dates say "always"
		// (RFC 5280 section 4.1.2.5).
		NotBefore: time.Date(1970, 1, 1, 0, 0, 0, 0, time.UTC),
		NotAfter:  time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		return nil, fmt.Errorf("make a certificate: %w", err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("make a certificate: %w", err)
	}
	id := &Identity{private: private, fingerprint: sha256.Sum256(leaf.RawSubjectPublicKeyInfo)}
	id.certificate = tls.Certificate{Certificate: [][]byte{der}, PrivateKey: private, Leaf: leaf}
	return id, nil
}

// derive returns a secret of this node for one purpose, the same at every start.
func (id *Identity) derive(purpose string) [32]byte {
	b, err := hkdf.Key(sha256.New, id.private.Seed(), nil, "repld "+purpose, 32)
	if err != nil {
		panic("hkdf: " + err.Error()) // lengths are constant
	}
	return [32]byte(b)
}

// createKey makes a key file that is complete and durable, or no file at all, and
// keeps a file that exists: it is linked into place, not renamed.
func createKey(dir, path string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, KeyFile+".*.tmp") // 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(pem.EncodeToMemory(&pem.Block{Type: keyBlock, Bytes: der}))
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Link(f.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
