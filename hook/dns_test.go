package hook

import (
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
)

const secret = "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0"

// zone is a small primary server of example.net. that takes signed updates.
type zone struct {
	mu      sync.Mutex
	records []dns.RR
	failed  int // updates that were refused
}

// ServeDNS applies an update as RFC 2136 3.4 has it.
func (z *zone) ServeDNS(w dns.ResponseWriter, m *dns.Msg) {
	z.mu.Lock()
	defer z.mu.Unlock()
	answer := new(dns.Msg).SetReply(m)
	defer func() {
		if answer.Rcode != dns.RcodeSuccess {
			z.failed++
		}
		if t := m.IsTsig(); t != nil {
			answer.SetTsig(t.Hdr.Name, t.Algorithm, 300, time.Now().Unix())
		}
		w.WriteMsg(answer)
	}()
	switch {
	case m.Opcode != dns.OpcodeUpdate || m.Question[0].Name != "example.net.":
		answer.Rcode = dns.RcodeNotZone
		return
	case m.IsTsig() == nil || w.TsigStatus() != nil:
		answer.Rcode = dns.RcodeNotAuth
		return
	}
	for _, rr := range m.Ns {
		h := rr.Header()
		if h.Class == dns.ClassANY {
			var kept []dns.RR
			for _, old := range z.records {
				if old.Header().Name != h.Name || old.Header().Rrtype != h.Rrtype {
					kept = append(kept, old)
				}
			}
			z.records = kept
			continue
		}
		z.records = append(z.records, rr)
	}
}

func (z *zone) text() string {
	z.mu.Lock()
	defer z.mu.Unlock()
	var lines []string
	for _, rr := range z.records {
		lines = append(lines, strings.ReplaceAll(rr.String(), "\t", " "))
	}
	return strings.Join(lines, "\n")
}

func TestDNS(t *testing.T) {
	old, err := dns.NewRR("www.example.net. 300 IN A 192.0.2.1")
	if err != nil {
		t.Fatal(err)
	}
	mail, err := dns.NewRR("www.example.net. 300 IN MX 10 mail.example.net.")
	if err != nil {
		t.Fatal(err)
	}
	z := &zone{records: []dns.RR{old, mail}}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	started := make(chan struct{})
	server := &dns.Server{Listener: l, Handler: z, TsigSecret: map[string]string{"repld.": secret}, NotifyStartedFunc: func() { close(started) },
		MsgAcceptFunc: func(dns.Header) dns.MsgAcceptAction { return dns.MsgAccept }}
	served := make(chan error, 1)
	go func() { served <- server.ActivateAndServe() }()
	<-started
	defer func() {
		server.Shutdown()
		if err := <-served; err != nil {
			t.Error(err)
		}
	}()

	keys := t.TempDir()
	key := func(name, text string) string {
		path := filepath.Join(keys, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	good := key("good", "key \"repld\" {\n\talgorithm hmac-sha256;\n\tsecret \""+secret+"\";\n};\n")
	update := DNS{Server: l.Addr().String(), Zone: "example.net", KeyFile: good, Set: map[string][]netip.Addr{
		"www": {netip.MustParseAddr("192.0.2.46"), netip.MustParseAddr("2001:db8::46")}, "@": {netip.MustParseAddr("192.0.2.46")},
	}}
	run := func(d DNS) error {
		_, err := New(Options{}).Run(t.Context(), []Hook{{DNS: &d, Timeout: 5 * time.Second}}, facts)
		return err
	}
	want := `www.example.net. 300 IN MX 10 mail.example.net.
example.net. 60 IN A 192.0.2.46
www.example.net. 60 IN A 192.0.2.46
www.example.net. 60 IN AAAA 2001:db8::46`
	for range 2 { // the second time it is so already
		if err := run(update); err != nil {
			t.Fatal(err)
		}
		if found := z.text(); found != want {
			t.Errorf("found\n%s\nwant\n%s", found, want)
		}
	}

	for name, c := range map[string]struct {
		change func(d *DNS)
		want   string
	}{
		"another secret": {func(d *DNS) {
			d.KeyFile = key("bad", `key "repld" { algorithm hmac-sha256; secret "`+strings.Repeat("A", 32)+`"; };`)
		}, "bad authentication"},
		"not signed":  {func(d *DNS) { d.KeyFile = "" }, "NOTAUTH"},
		"no such key": {func(d *DNS) { d.KeyFile = filepath.Join(keys, "none") }, "no such file"},
		"not a key":   {func(d *DNS) { d.KeyFile = key("text", "secret "+secret) }, "found no key in it"},
		"other zone":  {func(d *DNS) { d.Zone = "example.org" }, "NOTZONE"},
		"no server":   {func(d *DNS) { d.Server = "127.0.0.1:1" }, "connection refused"},
	} {
		d := update
		c.change(&d)
		err := run(d)
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), secret) {
			t.Errorf("%s: found %v, want %q", name, err, c.want)
		}
	}
	if found := z.text(); found != want {
		t.Errorf("what was refused has changed the zone:\n%s", found)
	}
}
