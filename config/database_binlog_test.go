package config

import (
	"reflect"
	"testing"
)

func TestServersWithBinaryLogs(t *testing.T) {
	c, err := Parse("repld.yaml", []byte(`
designated: primary
groups:
  - name: g
    trees: [{name: t, path: /srv/t}]
    databases:
      - {name: a, mariadb: {dsn: "repld@unix(/run/a)/", gate_port: 7000, user: maria}}
      - {name: b, mysql: {dsn_file: /etc/b, data_dir: /srv/b}}
      - {name: c, mysql: {dsn: "repld@unix(/run/c)/", gate_port: 7001, clone_dir: /srv/copy, spool_limit: 1MiB, start: [/bin/on], stop: [/bin/off]}}
`))
	if err != nil {
		t.Fatal(err)
	}
	want := []Database{
		{Name: "a", Engine: "mariadb", Server: Server{DSN: "repld@unix(/run/a)/", SpoolSize: DefaultSpoolSize, User: "maria"}, MariaDB: MariaDB{GatePort: 7000}},
		{Name: "b", Engine: "mysql", Server: Server{DSNFile: "/etc/b", SpoolSize: DefaultSpoolSize, DataDir: "/srv/b", User: DefaultMySQLUser},
			MySQL: MySQL{CloneDir: DefaultCloneDir}},
		{Name: "c", Engine: "mysql", Server: Server{DSN: "repld@unix(/run/c)/", SpoolSize: 1 << 20, User: DefaultMySQLUser, Start: []string{"/bin/on"}, Stop: []string{"/bin/off"}},
			MySQL: MySQL{GatePort: 7001, CloneDir: "/srv/copy"}},
	}
	if got := c.Groups[0].Databases; !reflect.DeepEqual(got, want) {
		t.Errorf("found %+v\nwant %+v", got, want)
	}
}
