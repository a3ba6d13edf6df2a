package control

import (
	"encoding/json"
	"testing"

	"repld/change"
)

// What a certificate says of databases is shown as their engines write it.
func TestBarrierOfDatabases(t *testing.T) {
	b := BarrierOf(change.Certificate{Databases: []change.DatabasePosition{
		{Name: "shop", Engine: change.EngineMariaDB, Position: change.StreamPosition{Chapter: 42, Offset: 1337}},
		{Name: "sounz", Engine: change.EnginePostgres, Position: change.StreamPosition{Chapter: 1, Offset: 0x1A2B3C8}, Retain: change.StreamPosition{Chapter: 1, Offset: 40}},
	}})
	got, err := json.Marshal(b.Databases)
	if err != nil {
		t.Fatal(err)
	}
	if want := `{"shop":{"engine":"mariadb","position":"000042:1337"},"sounz":{"engine":"postgres","position":"0/1A2B3C8"}}`; string(got) != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
