package config

import (
	"net/netip"
	"time"
)

// fullHooks are those of testdata/good/full.yaml.
var fullHooks = Hooks{
	Promote: []Hook{
		{Address: &AddressHook{Prefix: netip.MustParsePrefix("192.0.2.46/24"), Dev: "eth0"}, Timeout: DefaultTimeout, OnError: GoOn},
		{Systemd: &SystemdHook{Start: []string{"sounz.service"}, Enable: []string{"mi-cron.timer"}}, Timeout: DefaultTimeout, OnError: Abort},
		{DNS: &DNSHook{Server: "192.0.2.53", Zone: "example.net", KeyFile: "/etc/repld/tsig", TTL: time.Minute, Set: []DNSRecord{
			{"www", []netip.Addr{netip.MustParseAddr("192.0.2.46")}},
			{"@", []netip.Addr{netip.MustParseAddr("192.0.2.46"), netip.MustParseAddr("2001:db8::46")}},
		}}, Timeout: DefaultTimeout, OnError: GoOn},
	},
	Demote: []Hook{
		{Systemd: &SystemdHook{Stop: []string{"sounz.service"}, Disable: []string{"mi-cron.timer"}}, Timeout: DefaultTimeout, OnError: Abort},
		{Address: &AddressHook{Prefix: netip.MustParsePrefix("192.0.2.46/24"), Dev: "eth0", Remove: true}, Timeout: DefaultTimeout, OnError: GoOn},
	},
	Fence: []Hook{{Exec: []string{"/usr/local/sbin/power-off", "slayer"}, Timeout: 45 * time.Second, OnError: Abort}},
	Check: []Hook{{HTTP: &HTTPHook{Method: "GET", URL: "http://127.0.0.1/", Expect: 200, Contains: "SOUNZ"}, Timeout: 10 * time.Second, Retry: 3, OnError: GoOn}},
}
