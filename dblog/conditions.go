package dblog

import (
	"slices"

	"repld/health"
)

// Conditions lists what is wrong with a database as conditions, the worst first. The
// texts say it without the database's name.
func Conditions(trouble map[health.Code]string, name string) []health.Condition {
	var list []health.Condition
	for code, text := range trouble {
		severity, hint := health.Describe(code)
		list = append(list, health.Condition{
			Code: code, Severity: severity, Subject: name, Text: "database " + name + ": " + text, Hint: hint,
		})
	}
	slices.SortFunc(list, func(a, b health.Condition) int { return b.Severity.Rank() - a.Severity.Rank() })
	return list
}
