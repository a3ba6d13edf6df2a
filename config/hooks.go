package config

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"
)

// Hooks are what is done outside of repld at a change of role, each list in its order.
type Hooks struct {
	Promote, Demote, Fence, Check []Hook
}

// Hook is one thing to do. Exactly one of the kinds is set.
type Hook struct {
	Exec    []string // absolute path of a program and its arguments
	Systemd *SystemdHook
	HTTP    *HTTPHook
	Address *AddressHook
	DNS     *DNSHook

	Timeout time.Duration // of one attempt
	Retry   int           // further attempts
	OnError OnError
}

// OnError says what a hook's failure means.
type OnError string

// What a failure means.
const (
	Abort OnError = "abort" // the hooks after it don't run, and before the epoch has changed nothing changes
	GoOn  OnError = "go-on" // it is reported
)

// SystemdHook changes units, in this order.
type SystemdHook struct {
	Enable, Disable, Start, Stop []string // names with their suffix
}

// HTTPHook is a request and what it must bring.
type HTTPHook struct {
	Method   string // GET or POST
	URL      string
	Expect   int    // status
	Contains string // "" = any text
}

// AddressHook adds or removes an address.
type AddressHook struct {
	Prefix netip.Prefix // the address with the length of its network
	Dev    string
	Remove bool
}

// DNSHook sets address records of a zone.
type DNSHook struct {
	Server  string // host or host:port
	Zone    string
	Set     []DNSRecord // in the order of the file
	TTL     time.Duration
	KeyFile string // "" = not signed
}

// DNSRecord is a name with its addresses.
type DNSRecord struct {
	Name      string // in the zone; "@" = the zone itself
	Addresses []netip.Addr
}

// DefaultTTL is how long others may remember a record that a hook has set.
const DefaultTTL = time.Minute

const maxRetry = 100

func (r *reader) hooks(v field) Hooks {
	var h Hooks
	f, ok := r.mapping(v.value, hooksLevel, v.label, "hooks.")
	if !ok {
		return h
	}
	r.note("hooks.", f)
	for _, list := range []struct {
		key  string
		into *[]Hook
		// What was not stopped would be a second writer, and what was not fenced too; what
		// does not start is better reported than waited for.
		onError OnError
	}{{"promote", &h.Promote, GoOn}, {"demote", &h.Demote, Abort}, {"fence", &h.Fence, Abort}, {"check", &h.Check, GoOn}} {
		v, ok := f.get(list.key)
		if !ok {
			continue
		}
		for i, item := range r.list(v) {
			*list.into = append(*list.into, r.hook(item, fmt.Sprintf("hooks.%s.%d.", list.key, i), list.onError))
		}
	}
	return h
}

var hookKinds = []string{"exec", "systemd", "http", "address", "dns"}

func (r *reader) hook(n ast.Node, key string, onError OnError) Hook {
	h := Hook{Timeout: DefaultTimeout, OnError: onError}
	f, ok := r.mapping(n, hookLevel, "a hook", "")
	if !ok {
		return h
	}
	r.note(key, f)
	var kinds []string
	for _, kind := range hookKinds {
		if found, ok := f.m[kind]; ok {
			if kinds = append(kinds, kind); len(kinds) > 1 {
				r.wrong(found.key, "make it two hooks", "found %s and %s in one hook, want one of them", kinds[0], kind)
			}
		}
	}
	if len(kinds) == 0 {
		r.wrong(f.at, "", "found nothing to do in a hook, want one of %s", strings.Join(hookKinds, ", "))
	}
	if v, ok := f.get("exec"); ok {
		h.Exec = r.command(v)
	}
	if v, ok := f.get("systemd"); ok {
		h.Systemd = r.systemdHook(v)
	}
	if v, ok := f.get("http"); ok {
		h.HTTP = r.httpHook(v)
	}
	if v, ok := f.get("address"); ok {
		h.Address = r.addressHook(v)
	}
	if v, ok := f.get("dns"); ok {
		h.DNS = r.dnsHook(v)
	}
	maybe(r, f, "timeout", &h.Timeout, ParseDuration)
	maybe(r, f, "retry", &h.Retry, number(0, maxRetry))
	maybe(r, f, "on_error", &h.OnError, oneOf(Abort, GoOn))
	return h
}

// number returns a check for whole numbers.
func number(least, most int) func(string) (int, error) {
	return func(s string) (int, error) {
		n, err := strconv.Atoi(s)
		if err != nil || n < least || n > most {
			return 0, &valueError{found: s, want: fmt.Sprintf("a whole number from %d to %d", least, most)}
		}
		return n, nil
	}
}

func (r *reader) systemdHook(v field) *SystemdHook {
	f, ok := r.mapping(v.value, systemdLevel, v.label, "systemd.")
	if !ok {
		return nil
	}
	s := &SystemdHook{}
	for key, into := range map[string]*[]string{"enable": &s.Enable, "disable": &s.Disable, "start": &s.Start, "stop": &s.Stop} {
		if v, ok := f.get(key); ok {
			*into = r.texts(v, checkUnit)
		}
	}
	if len(f.m) == 0 {
		r.wrong(f.at, "", "systemd is empty, want units to start, stop, enable or disable")
	}
	return s
}

// checkUnit accepts names of units. (systemd.unit(5))
func checkUnit(s string) (string, error) {
	const suffixes = " service socket target timer path mount automount swap slice scope device "
	name, suffix, ok := cutLast(s, ".")
	if ok && name != "" && strings.Contains(suffixes, " "+suffix+" ") && !hasControl(s) && !strings.ContainsAny(s, " /\"'*?[") && len(s) < 256 {
		return s, nil
	}
	e := &valueError{found: s, want: "the name of a unit with its suffix, such as sounz.service"}
	if !strings.Contains(s, ".") && s != "" {
		e.hint = fmt.Sprintf("did you mean %s.service?", s)
	}
	return "", e
}

func cutLast(s, sep string) (before, after string, ok bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

func (r *reader) httpHook(v field) *HTTPHook {
	f, ok := r.mapping(v.value, hookHTTPLevel, v.label, "http.")
	if !ok {
		return nil
	}
	h := &HTTPHook{Expect: 200}
	get, byGet := f.get("get")
	post, byPost := f.get("post")
	switch {
	case byGet && byPost:
		r.wrong(post.key, "make it two hooks", "found get and post in one hook, want one of them")
	case byGet:
		h.Method = "GET"
		r.text(get, &h.URL, checkURL)
	case byPost:
		h.Method = "POST"
		r.text(post, &h.URL, checkURL)
	case f.m["get"].key == nil && f.m["post"].key == nil:
		r.wrong(f.at, "", "found neither get nor post in http, want one of them, with a URL")
	}
	maybe(r, f, "expect", &h.Expect, number(100, 599))
	if v, ok := f.get("contains"); ok {
		r.text(v, &h.Contains, func(s string) (string, error) { return s, nil })
	}
	return h
}

func (r *reader) addressHook(v field) *AddressHook {
	f, ok := r.mapping(v.value, addressLevel, v.label, "address.")
	if !ok {
		return nil
	}
	a := &AddressHook{}
	add, byAdd := f.get("add")
	remove, byRemove := f.get("remove")
	switch {
	case byAdd && byRemove:
		r.wrong(remove.key, "make it two hooks", "found add and remove in one hook, want one of them")
	case byAdd:
		value(r, add, &a.Prefix, parsePrefix)
	case byRemove:
		a.Remove = true
		value(r, remove, &a.Prefix, parsePrefix)
	case f.m["add"].key == nil && f.m["remove"].key == nil:
		r.wrong(f.at, "", "found neither add nor remove in address, want one of them")
	}
	if dev, ok := r.need(f, "dev", "address", "the name of an interface"); ok {
		r.text(dev, &a.Dev, checkDev)
	}
	return a
}

func parsePrefix(s string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(s)
	if err == nil && !p.Addr().Is4In6() && p.Addr().IsValid() && !p.Addr().IsUnspecified() && !p.Addr().IsMulticast() {
		return p, nil
	}
	e := &valueError{found: s, want: "an address with the length of its network, such as 192.0.2.46/24"}
	if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" {
		e.hint = fmt.Sprintf("did you mean %s/%d?", s, map[bool]int{true: 24, false: 64}[a.Is4()])
	}
	return netip.Prefix{}, e
}

// checkDev accepts names of interfaces: at most 15 bytes. (dev_valid_name of Linux)
func checkDev(s string) (string, error) {
	if s == "" || len(s) > 15 || s == "." || s == ".." || strings.ContainsAny(s, "/: \t\n") || hasControl(s) {
		return "", &valueError{found: s, want: "the name of an interface, such as eth0"}
	}
	return s, nil
}

func (r *reader) dnsHook(v field) *DNSHook {
	f, ok := r.mapping(v.value, dnsLevel, v.label, "dns.")
	if !ok {
		return nil
	}
	d := &DNSHook{TTL: DefaultTTL}
	if v, ok := r.need(f, "server", "dns", "the primary server of the zone"); ok {
		r.text(v, &d.Server, checkServer)
	}
	if v, ok := r.need(f, "zone", "dns", "the name of the zone"); ok {
		r.text(v, &d.Zone, checkDomain)
	}
	maybe(r, f, "ttl", &d.TTL, ParseDuration)
	if v, ok := f.get("key_file"); ok {
		r.text(v, &d.KeyFile, checkPath)
	}
	set, ok := r.need(f, "set", "dns", "names with their addresses")
	if !ok || !r.isShape(set.value, set.label, isMapping) {
		return d
	}
	seen := map[string]bool{}
	for _, pair := range pairs(set.value) {
		record := DNSRecord{Name: pair.Key.GetToken().Value}
		if _, err := checkDomain(record.Name); err != nil && record.Name != "@" {
			r.wrong(pair.Key.GetToken(), "", "%s: found %s, want a name in the zone, or @ for the zone itself", set.label, quote(record.Name))
		}
		if seen[record.Name] {
			r.wrong(pair.Key.GetToken(), "give it a list of addresses", "%s: %s stands here a second time", set.label, record.Name)
		}
		seen[record.Name] = true
		values := field{label: set.label + "." + record.Name, value: pair.Value}
		items := []ast.Node{pair.Value}
		if shapeOf(pair.Value) == isList {
			items = r.list(values)
		}
		for _, item := range items {
			var a netip.Addr
			if value(r, field{label: values.label, value: item}, &a, parseAddr) {
				record.Addresses = append(record.Addresses, a)
			}
		}
		if len(items) == 0 {
			r.wrong(at(pair.Value), "", "%s is empty, want at least one address", values.label)
		}
		d.Set = append(d.Set, record)
	}
	return d
}

func parseAddr(s string) (netip.Addr, error) {
	a, err := netip.ParseAddr(s)
	if err != nil || a.Zone() != "" || a.Is4In6() {
		return netip.Addr{}, &valueError{found: s, want: "an address such as 192.0.2.46 or 2001:db8::46"}
	}
	return a, nil
}

func checkServer(s string) (string, error) {
	if hostRule.MatchString(s) || net.ParseIP(withoutZone(s)) != nil || checkHostPort(s, "", false) == nil {
		return s, nil
	}
	return "", &valueError{found: s, want: "a host or an address, with or without a port"}
}

// checkDomain accepts names of zones and hosts. (RFC 1035 2.3.1, and underscores)
func checkDomain(s string) (string, error) {
	name := strings.TrimSuffix(s, ".")
	bad := &valueError{found: s, want: "a domain name such as example.net"}
	if name == "" || len(name) > 253 {
		return "", bad
	}
	for label := range strings.SplitSeq(name, ".") {
		if len(label) > 63 || !hostRule.MatchString(label) {
			return "", bad
		}
	}
	return s, nil
}
