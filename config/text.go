package config

import (
	"fmt"
	"net"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// MaxName is the longest name of a node, group or tree, in bytes.
const MaxName = 64

// maxSocket is how long the path of a Unix socket can be: sun_path of unix(7)
// less the zero that ends it.
const maxSocket = 107

var (
	nameRule = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)
	hostRule = regexp.MustCompile(`^[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_.])?$`)
	// headerRule is token of RFC 9110, section 5.6.2.
	headerRule = regexp.MustCompile("^[!#$%&'*+.^_`|~0-9A-Za-z-]+$")
)

func hasControl(s string) bool {
	return !utf8.ValidString(s) || strings.ContainsFunc(s, unicode.IsControl)
}

// hasDots reports whether a component of the path is "." or "..".
func hasDots(path string) bool {
	for part := range strings.SplitSeq(path, "/") {
		if part == "." || part == ".." {
			return true
		}
	}
	return false
}

// checkName accepts what can be the name of a file, a label of a metric and an
// argument without quotes.
func checkName(s string) (string, error) {
	if nameRule.MatchString(s) && len(s) <= MaxName {
		return s, nil
	}
	return "", &valueError{found: s, want: fmt.Sprintf(
		"a name of at most %d letters, digits, dots, underscores and dashes that begins with a letter or digit", MaxName)}
}

// checkPath accepts absolute paths, and returns them clean.
func checkPath(s string) (string, error) {
	e := &valueError{found: s, want: "an absolute path"}
	switch {
	case hasControl(s):
		e.want += " without control characters"
	case hasDots(s):
		e.want += ` without "." and ".."`
	case strings.HasPrefix(s, "/"):
		return filepath.Clean(s), nil
	case strings.HasPrefix(s, "~"):
		e.hint = "no shell reads this: write the home directory out"
	}
	return "", e
}

func checkSocket(s string) (string, error) {
	path, err := checkPath(s)
	if err == nil && len(path) > maxSocket {
		return "", &valueError{found: s, want: fmt.Sprintf("a path of at most %d bytes, all that a Unix socket can have", maxSocket)}
	}
	return path, err
}

// checkListen accepts host:port to listen on; without host that is all addresses.
func checkListen(s string) (string, error) {
	return s, checkHostPort(s, `host:port such as "127.0.0.1:7441", or ":7440" for all addresses`, true)
}

func checkAddress(s string) (string, error) {
	return s, checkHostPort(s, `host:port such as "standby.example.net:7440"`, false)
}

func checkHostPort(s, want string, listen bool) error {
	e := &valueError{found: s, want: want}
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		switch {
		case net.ParseIP(s) != nil && strings.Contains(s, ":"):
			e.hint = fmt.Sprintf("did you mean \"[%s]:7440\"?", s)
		case hostRule.MatchString(s):
			e.hint = fmt.Sprintf("did you mean \"%s:7440\"?", s)
		}
		return e
	}
	n, err := strconv.ParseUint(port, 10, 16)
	switch {
	case err != nil || n == 0 && !listen:
		e.want += ", its port a number"
	case host == "" && listen:
		return nil
	case !hostRule.MatchString(host) && net.ParseIP(withoutZone(host)) == nil:
	default:
		return nil
	}
	return e
}

// withoutZone drops the zone of a link-local IPv6 address, fe80::1%eth0.
func withoutZone(host string) string {
	address, _, _ := strings.Cut(host, "%")
	return address
}

// checkArgument accepts what can be passed to a program.
func checkArgument(s string) (string, error) {
	if strings.ContainsRune(s, 0) {
		return "", &valueError{found: s, want: "a text without zero bytes"}
	}
	return s, nil
}

func checkHeader(s string) (string, error) {
	if hasControl(s) {
		return "", &valueError{found: s, want: "the value of a header, without control characters"}
	}
	return s, nil
}

func isHeaderName(s string) bool { return headerRule.MatchString(s) }
