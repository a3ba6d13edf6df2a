package health

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// tested names for each code the test that raises it by its cause and sees it
// resolve. Codes of what isn't built yet have none.
var tested = map[Code]string{
	BarrierLate:       "capture TestHealthBarrierLate",
	FreezeFailed:      "capture TestHealthFreezeFailed",
	LinkDown:          "daemon TestLinkDown",
	JournalFull:       "capture TestHealthJournalFull",
	DiskLow:           "daemon TestDiskLow",
	WatchLimit:        "watch TestHealthWatchLimit",
	WatchOverflow:     "watch TestHealthWatchOverflow",
	UncoveredFiles:    "capture TestHealthUncoveredFiles",
	NotPermitted:      "apply TestNotPermitted",
	ForeignWrite:      "apply TestLookAround",
	GuardHalted:       "apply TestGuard",
	SeedHalted:        "apply TestSeedHalts",
	ChunkMissing:      "apply TestGoneWhileSeeding",
	VerifyDiffers:     "apply TestRottenSource",
	MissedChanges:     "capture TestHealthMissedChanges",
	ClockSkew:         "daemon TestClockJump",
	PeerVersion:       "daemon TestPeerVersion",
	TransportFallback: "",
	DatabaseDown:      "dblog/postgres TestServerThatIsDown",
	DatabaseSetup:     "dblog/postgres TestServersThatDontSuit",
	DatabaseBypass:    "dblog/postgres TestReplicaPastTheGateIsFound",
	DatabaseAhead:     "dblog/postgres TestReplicaPastTheGateIsFound",
	DatabaseNeedsSeed: "dblog/postgres TestSlotLimit",
	SpoolFull:         "dblog/postgres TestStreamIsBounded",
	Held:              "daemon TestHeld",
	Fenced:            "daemon TestFailover",
	SplitBrain:        "daemon TestSplitBrain",
	HookFailed:        "daemon TestHookThatFails",
	RoleStuck:         "daemon TestRoleStuck",
	RoleChanged:       "daemon TestAlertsOfRoles",
	CoordinationDown:  "daemon TestCutOffFromCoordination",
	GroupFailed:       "daemon TestGroupCantBeOpened",
	GroupDiffers:      "daemon TestGroupOfOtherContents",
	StateDamaged:      "daemon TestStateDamaged",
	AlertFailed:       "alert TestFailingSinks",
}

// TestEveryCodeIsTested holds the codes against the tests by name, so that a new one
// can't come without.
func TestEveryCodeIsTested(t *testing.T) {
	for _, code := range Codes() {
		where, known := tested[code]
		if !known {
			t.Errorf("no test is named for %s", code)
		}
		dir, name, built := strings.Cut(where, " ")
		if !built {
			continue
		}
		files, err := filepath.Glob(filepath.Join("..", dir, "*_test.go"))
		if err != nil || len(files) == 0 {
			t.Fatalf("%s has no tests: %v", dir, err)
		}
		found := false
		begin := regexp.MustCompile(`(?m)^func ` + name + `\(t \*testing\.T\)`)
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			found = found || begin.Match(text)
		}
		if !found {
			t.Errorf("%s: there is no %s in %s", code, name, dir)
		}
	}
}
