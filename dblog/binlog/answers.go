package binlog

import (
	"encoding/binary"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// codeUnknown is ER_UNKNOWN_COM_ERROR, codeSyntax ER_PARSE_ERROR.
const (
	codeUnknown = 1047
	codeSyntax  = 1064
)

var (
	setStatement  = regexp.MustCompile(`(?is)^SET\s+@\w+\s*=`)
	assignment    = regexp.MustCompile(`@(\w+)\s*=\s*(?:'([^']*)'|([^\s,']+))`)
	userVariable  = regexp.MustCompile(`(?is)^SELECT\s+@(\w+)$`)
	globalSetting = regexp.MustCompile(`(?is)^SELECT\s+@@(?:GLOBAL\.)?(\w+)$`)
	showVariables = regexp.MustCompile(`(?is)^SHOW\s+(?:GLOBAL\s+)?VARIABLES\s+LIKE\s+'(\w+)'$`)
	otherSet      = regexp.MustCompile(`(?is)^SET\s+(NAMES|SESSION|@@|sql_mode)`)
)

// query answers what a replica asks before it streams (slave.cc,
// get_master_version_and_clock).
func (s *session) query(sql string) error {
	sql = strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(sql), ";"))
	_, about, ok := s.gate.open()
	if !ok {
		return s.refuse(codeTooMany, "08004", "repld has closed the gate")
	}
	switch {
	case setStatement.MatchString(sql):
		for _, m := range assignment.FindAllStringSubmatch(sql, -1) {
			s.vars[strings.ToLower(m[1])] = m[2] + m[3]
		}
		return s.ok()
	case otherSet.MatchString(sql):
		return s.ok()
	case strings.EqualFold(sql, "SELECT UNIX_TIMESTAMP()"):
		return s.result("UNIX_TIMESTAMP()", strconv.FormatInt(time.Now().Unix(), 10))
	case strings.EqualFold(sql, "SELECT VERSION()"):
		return s.result("VERSION()", about.format.version)
	case userVariable.MatchString(sql):
		name := strings.ToLower(userVariable.FindStringSubmatch(sql)[1])
		value := s.vars[name]
		if strings.HasSuffix(name, "_binlog_checksum") {
			s.checksum = about.format.checksum
			value = checksumName(s.checksum)
		}
		return s.result("@"+name, value)
	case globalSetting.MatchString(sql):
		return s.setting(globalSetting.FindStringSubmatch(sql)[1], about, false)
	case showVariables.MatchString(sql):
		return s.setting(showVariables.FindStringSubmatch(sql)[1], about, true)
	}
	s.gate.opts.Logger.Info("the replica asked what the gate doesn't know", "database", s.gate.opts.Name, "statement", sql)
	return s.sorry(codeSyntax, "42000", "repld's gate doesn't know this statement")
}

func checksumName(algorithm byte) string {
	if algorithm == checksumCRC32 {
		return "CRC32"
	}
	return "NONE"
}

// setting answers with one of the primary's settings, alone or behind its name.
func (s *session) setting(name string, about info, named bool) error {
	name = strings.ToLower(name)
	known := s.gate.dialect.settings(about, s.gate.entry())
	known["server_id"] = strconv.FormatUint(uint64(about.format.server), 10)
	known["version"] = about.format.version
	known["binlog_checksum"] = checksumName(about.format.checksum)
	value, ok := known[name]
	switch {
	case named && !ok:
		return s.result("Variable_name", "", "Value")
	case named:
		return s.result("Variable_name", name, "Value", value)
	case !ok:
		return s.sorry(1193, "HY000", "repld's gate doesn't know the setting "+name)
	}
	return s.result("@@"+name, value)
}

// result sends a result of one row, from names and values in turn; without the last
// value it has no row.
func (s *session) result(pairs ...string) error {
	columns := (len(pairs) + 1) / 2
	if err := s.out.write([]byte{byte(columns)}); err != nil {
		return err
	}
	var row []byte
	for i := 0; i < len(pairs); i += 2 {
		if err := s.out.write(columnDefinition(pairs[i])); err != nil {
			return err
		}
		if i+1 < len(pairs) {
			row = appendText(row, pairs[i+1])
		}
	}
	eof := []byte{answerEOF, 0, 0, statusReady, 0}
	if err := s.out.write(eof); err != nil {
		return err
	}
	if len(pairs)%2 == 0 {
		if err := s.out.write(row); err != nil {
			return err
		}
	}
	return s.send(eof)
}

// columnDefinition describes a column of text (ColumnDefinition41).
func columnDefinition(name string) []byte {
	var b []byte
	for _, v := range []string{"def", "", "", "", name, name} {
		b = appendText(b, v)
	}
	b = append(b, 0x0c)
	b = binary.LittleEndian.AppendUint16(b, charsetUTF8)
	b = binary.LittleEndian.AppendUint32(b, 1024)
	return append(b, 253, 0, 0, 0, 0, 0) // VAR_STRING
}

// appendText appends a string with its length.
func appendText(b []byte, v string) []byte {
	if len(v) <= 250 {
		return append(append(b, byte(len(v))), v...)
	}
	b = append(b, 0xfc)
	b = binary.LittleEndian.AppendUint16(b, uint16(len(v)))
	return append(b, v...)
}
