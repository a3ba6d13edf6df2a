package wire

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"
)

func TestIdentityIsMadeOnceAndKept(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	var wg sync.WaitGroup
	keys := make([]Fingerprint, 8)
	for i := range keys {
		wg.Add(1)
		go func() {
			defer wg.Done()
			id, err := LoadOrCreateIdentity(dir)
			if err != nil {
				t.Error(err)
				return
			}
			keys[i] = id.Fingerprint()
		}()
	}
	wg.Wait()
	for _, key := range keys {
		if key.IsZero() || key != keys[0] {
			t.Fatalf("keys differ: %v", keys)
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 || entries[0].Name() != KeyFile {
		t.Errorf("the directory holds %v, %v", entries, err)
	}
	info, err := os.Stat(filepath.Join(dir, KeyFile))
	if err != nil || info.Mode() != 0o600 {
		t.Errorf("key file has mode %v, %v", info.Mode(), err)
	}
	a, _ := LoadOrCreateIdentity(dir)
	b, _ := LoadOrCreateIdentity(dir)
	if a.derive("x") != b.derive("x") || a.derive("x") == a.derive("y") {
		t.Error("derived secrets must depend on key and purpose alone")
	}
}

func TestBadKeyFilesAreRefusedAndKept(t *testing.T) {
	for name, tc := range map[string]struct {
		text string
		mode fs.FileMode
	}{
		"empty":      {"", 0o600},
		"no key":     {"hello", 0o600},
		"broken":     {"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", 0o600},
		"readable":   {"hello", 0o640},
		"all others": {"hello", 0o604},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, KeyFile)
			if err := os.WriteFile(path, []byte(tc.text), tc.mode); err != nil {
				t.Fatal(err)
			}
			var bad *IdentityError
			if _, err := LoadOrCreateIdentity(dir); !errors.As(err, &bad) || bad.Path != path || bad.Hint == "" {
				t.Errorf("got %v", err)
			}
			if text, err := os.ReadFile(path); err != nil || string(text) != tc.text {
				t.Errorf("the file was changed to %q, %v", text, err)
			}
		})
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	var bad *IdentityError
	if _, err := LoadOrCreateIdentity(file); !errors.As(err, &bad) {
		t.Errorf("got %v", err)
	}
}

func TestFingerprintText(t *testing.T) {
	want := Fingerprint{0xab, 31: 0xcd}
	text, _ := want.MarshalText()
	var got Fingerprint
	if err := got.UnmarshalText(text); err != nil || got != want {
		t.Errorf("got %v, %v", got, err)
	}
	for _, bad := range []string{"", "sha256:", "ab", want.String() + "0", "sha256:" + "zz" + want.String()[9:]} {
		if _, err := ParseFingerprint(bad); err == nil {
			t.Errorf("fingerprint %q was taken", bad)
		}
	}
}
