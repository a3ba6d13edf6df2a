package change

import (
	"bytes"
	"errors"
	"math"
	"reflect"
	"testing"
)

func TestDatabasePositionAsItsEngineWritesIt(t *testing.T) {
	for want, p := range map[string]DatabasePosition{
		"0/1A2B3C8":         {Engine: EnginePostgres, Position: StreamPosition{1, 0x1A2B3C8}},
		"FFFFFFFF/FFFFFFFF": {Engine: EnginePostgres, Position: StreamPosition{math.MaxUint32, math.MaxUint64}},
		"1/0":               {Engine: EnginePostgres, Position: StreamPosition{7, 1 << 32}},
		"000042:1337":       {Engine: EngineMariaDB, Position: StreamPosition{42, 1337}},
		"1234567:4":         {Engine: EngineMariaDB, Position: StreamPosition{1234567, 4}},
		"812":               {Engine: EngineRedis, Position: StreamPosition{1, 813}},
		"813":               {Engine: EngineExec, Position: StreamPosition{1763746000, 813}},
		"3:9":               {Engine: "of a later version", Position: StreamPosition{3, 9}},
	} {
		if got := p.String(); got != want {
			t.Errorf("%+v is written %s, want %s", p.Position, got, want)
		}
	}
}

// databases is a list of each length, with the ends of the ranges.
var databases = [][]DatabasePosition{
	nil,
	{{Name: "app", Engine: EnginePostgres, Position: StreamPosition{1, 0x1A2B3C8}, Retain: StreamPosition{1, 0x1A00028}}},
	{{}, {Name: "b", Engine: EngineMariaDB, Position: StreamPosition{math.MaxUint32, math.MaxUint64}}, {Name: "ba"}},
}

func TestDatabasesRoundTrip(t *testing.T) {
	for _, want := range databases {
		b := AppendDatabases(nil, want)
		if len(want) == 0 && len(b) != 0 {
			t.Errorf("no databases take %d bytes", len(b))
		}
		d := NewDecoder(b)
		if got := d.Databases(); d.Finish() != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("got %+v, want %+v: %v", got, want, d.Err())
		}
		for cut := 1; cut < len(b); cut++ {
			d := NewDecoder(b[:cut])
			if got := d.Databases(); got != nil || !errors.Is(d.Finish(), ErrMalformed) {
				t.Errorf("%d of %d bytes give %+v: %v", cut, len(b), got, d.Err())
			}
		}
	}
	for what, b := range map[string][]byte{
		"no databases":        {0},
		"not sorted":          AppendDatabases(nil, []DatabasePosition{{Name: "b"}, {Name: "a"}}),
		"twice":               AppendDatabases(nil, []DatabasePosition{{Name: "a"}, {Name: "a"}}),
		"long engine":         AppendDatabases(nil, []DatabasePosition{{Engine: string(make([]byte, maxEngine+1))}}),
		"too many":            AppendDatabases(nil, make([]DatabasePosition, maxDatabases+1)),
		"chapter of 33 bits":  {1, 0, 0, 0x80, 0x80, 0x80, 0x80, 0x10, 0, 0, 0},
		"bytes that are left": append(AppendDatabases(nil, databases[1]), 0),
	} {
		d := NewDecoder(b)
		d.Databases()
		if err := d.Finish(); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// FuzzDatabases: whatever decodes has exactly one encoding.
func FuzzDatabases(f *testing.F) {
	for _, list := range databases {
		f.Add(AppendDatabases(nil, list))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		d := NewDecoder(b)
		list := d.Databases()
		if d.Finish() != nil {
			return
		}
		if again := AppendDatabases(nil, list); !bytes.Equal(again, b) {
			t.Fatalf("%+v: %x, then %x", list, b, again)
		}
	})
}
