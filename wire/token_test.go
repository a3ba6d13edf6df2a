package wire

import (
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"
)

var testToken = Token{Address: "standby.example.net:7440", Key: Fingerprint{1, 2, 3}, Secret: [SecretSize]byte{4, 5},
	Expires: time.Unix(1795248000, 0).UTC()}

func TestTokenIsOneLineAndComesBack(t *testing.T) {
	s, now := testToken.String(), testToken.Expires.Add(-time.Second)
	if strings.ContainsAny(s, " \n\t\"'$&|;<>()\\") || !strings.HasPrefix(s, "repld1x") {
		t.Errorf("token is %q", s)
	}
	for _, text := range []string{s, "  " + s + "\n", strings.ToUpper(s)} {
		got, err := ParseToken(text, now)
		if err != nil || got != testToken {
			t.Errorf("%q: got %+v, %v", text, got, err)
		}
	}
}

func TestTokenIsLoggedWithoutItsSecret(t *testing.T) {
	var b strings.Builder
	slog.New(slog.NewTextHandler(&b, nil)).Info("issued", "token", testToken)
	if !strings.Contains(b.String(), testToken.Address) || strings.Contains(b.String(), "repld1x") {
		t.Errorf("logged %s", b.String())
	}
}

func TestTokenErrorsSayWhatIsWrong(t *testing.T) {
	s, now := testToken.String(), testToken.Expires.Add(-time.Second)
	for i := len("repld1x"); i < len(s); i++ {
		c := "b"
		if s[i] == 'b' {
			c = "c"
		}
		if _, err := ParseToken(s[:i]+c+s[i+1:], now); !errors.Is(err, ErrTokenDamaged) {
			t.Fatalf("character %d changed: got %v", i, err)
		}
		if _, err := ParseToken(s[:i], now); !errors.Is(err, ErrTokenDamaged) {
			t.Fatalf("cut to %d characters: got %v", i, err)
		}
	}
	bad := testToken
	bad.Address = "nowhere"
	for text, want := range map[string]error{
		"":                                   ErrNotToken,
		"hunter2":                            ErrNotToken,
		"repldx":                             ErrNotToken,
		"repld1":                             ErrNotToken,
		"repld2xabc":                         ErrTokenVersion,
		s[:40] + " " + s[40:]:                ErrTokenDamaged,
		bad.String():                         ErrTokenDamaged,
		"join token: " + s:                   ErrNotToken,
		"repld1x" + s[len("repld1x"):] + "a": ErrTokenDamaged,
	} {
		if _, err := ParseToken(text, now); !errors.Is(err, want) {
			t.Errorf("%q: got %v, want %v", text, err, want)
		}
	}
	if _, err := ParseToken(s, testToken.Expires); !errors.Is(err, ErrTokenExpired) {
		t.Errorf("got %v, want %v", err, ErrTokenExpired)
	}
}

func TestCheckAddress(t *testing.T) {
	for _, good := range []string{"a:1", "10.0.0.2:7440", "[::1]:65535", "[fe80::1%eth0]:7440", "host.example.net:7440"} {
		if err := CheckAddress(good); err != nil {
			t.Error(err)
		}
	}
	for _, bad := range []string{"", "a", ":1", "a:", "a:0", "a:65536", "a:http", "::1:80", "a b:1", "\x01:1", "ä:1",
		strings.Repeat("x", maxAddress) + ":1"} {
		if err := CheckAddress(bad); err == nil {
			t.Errorf("address %q was taken", bad)
		}
	}
}

func FuzzParseToken(f *testing.F) {
	f.Add(testToken.String())
	f.Add("repld1xaaaa")
	f.Fuzz(func(t *testing.T, s string) {
		token, err := ParseToken(s, time.Unix(0, 0))
		if err != nil {
			return
		}
		again, err := ParseToken(token.String(), time.Unix(0, 0))
		if err != nil || again != token {
			t.Fatalf("got %+v, %v, want %+v", again, err, token)
		}
	})
}
