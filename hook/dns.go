package hook

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// DNS sets address records of a zone.
type DNS struct {
	Server  string // host, or host:port; the port is 53 where none is said
	Zone    string
	Set     map[string][]netip.Addr // names in the zone, "@" for the zone itself
	TTL     time.Duration           // 0 = 1 min
	KeyFile string                  // a TSIG key as tsig-keygen(8) writes it; "" = not signed
}

func (d *DNS) String() string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(d.Set)) {
		parts = append(parts, fmt.Sprintf("%s=%v", name, d.Set[name]))
	}
	return "set " + strings.Join(parts, " ") + " in " + d.Zone
}

// update replaces, for each name, the records of the types that are set; records of
// other types stay. (RFC 2136 2.5)
func (d *DNS) update(ctx context.Context) error {
	zone := dns.Fqdn(d.Zone)
	m := new(dns.Msg).SetUpdate(zone)
	for _, name := range slices.Sorted(maps.Keys(d.Set)) {
		d.set(m, zone, name)
	}
	c := &dns.Client{Net: "tcp"}
	if d.KeyFile != "" {
		key, err := readKey(d.KeyFile)
		if err != nil {
			return err
		}
		c.TsigSecret = map[string]string{key.name: key.secret}
		m.SetTsig(key.name, key.algorithm, 300, time.Now().Unix())
	}
	server := d.Server
	if _, _, err := net.SplitHostPort(server); err != nil {
		server = net.JoinHostPort(strings.Trim(server, "[]"), "53")
	}
	if deadline, ok := ctx.Deadline(); ok {
		c.Timeout = time.Until(deadline)
	}
	answer, _, err := c.ExchangeContext(ctx, m, server)
	if err != nil {
		return fmt.Errorf("DNS server %s: %w", server, err)
	}
	if answer.Rcode != dns.RcodeSuccess {
		return fmt.Errorf("DNS server %s answers %s to the update of %s, want NOERROR", server, dns.RcodeToString[answer.Rcode], d.Zone)
	}
	return nil
}

func (d *DNS) set(m *dns.Msg, zone, name string) {
	full := zone
	if name != "@" {
		full = name + "." + zone
	}
	ttl := uint32(cmp.Or(d.TTL, time.Minute) / time.Second)
	var records, replaced []dns.RR
	seen := map[uint16]bool{}
	for _, address := range d.Set[name] {
		var rr dns.RR
		if address.Is4() {
			rr = &dns.A{Hdr: dns.RR_Header{Name: full, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: ttl}, A: address.AsSlice()}
		} else {
			rr = &dns.AAAA{Hdr: dns.RR_Header{Name: full, Rrtype: dns.TypeAAAA, Class: dns.ClassINET, Ttl: ttl}, AAAA: address.AsSlice()}
		}
		records = append(records, rr)
		if kind := rr.Header().Rrtype; !seen[kind] {
			seen[kind] = true
			replaced = append(replaced, rr)
		}
	}
	m.RemoveRRset(replaced)
	m.Insert(records)
}

type tsigKey struct{ name, algorithm, secret string }

var keyRule = regexp.MustCompile(`(?s)^\s*key\s+"?([^"\s{]+)"?\s*\{(.*)\}\s*;?\s*$`)
var valueRule = regexp.MustCompile(`(algorithm|secret)\s+"?([^"\s;]+)"?\s*;`)

// readKey reads `key "name" { algorithm hmac-sha256; secret "…"; };`. Errors don't show
// the content.
func readKey(path string) (tsigKey, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return tsigKey{}, fmt.Errorf("TSIG key: %w", err)
	}
	var k tsigKey
	if found := keyRule.FindStringSubmatch(string(text)); found != nil {
		k.name = dns.CanonicalName(found[1])
		for _, v := range valueRule.FindAllStringSubmatch(found[2], -1) {
			if v[1] == "secret" {
				k.secret = v[2]
			} else {
				k.algorithm = dns.CanonicalName(v[2])
			}
		}
	}
	if k.name == "" || k.algorithm == "" || k.secret == "" {
		return tsigKey{}, fmt.Errorf(`TSIG key %s: found no key in it, want: key "NAME" { algorithm hmac-sha256; secret "BASE64"; };`, path)
	}
	return k, nil
}
