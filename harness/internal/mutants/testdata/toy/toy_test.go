package toy

import (
	"flag"
	"strings"
	"testing"
)

// noFailFile stands for the flag of pgregory.net/rapid.
var noFailFile = flag.Bool("rapid.nofailfile", false, "write no files of failures")

func TestNoFilesAreWritten(t *testing.T) {
	if !*noFailFile {
		t.Error("rapid writes what fails into testdata")
	}
}

func TestSmaller(t *testing.T) {
	if Smaller(1, 2) != 1 || Smaller(2, 1) != 1 {
		t.Error("not the smaller one")
	}
}

func TestSum(t *testing.T) {
	if got := Sum(4); got != 6 {
		t.Errorf("got %d", got)
	}
}

func TestLine(t *testing.T) {
	if Line("-", 3) != "---" {
		t.Error("not a line")
	}
}

// TestQuery stands for an engine.
func TestQuery(t *testing.T) {
	if !strings.Contains(query, "and coalesce(") {
		t.Fatal(`ERROR: syntax error at or near "or" (SQLSTATE 42601)`)
	}
	if !strings.Contains(query, "status = 'completed'") {
		t.Error("runs that have not completed")
	}
}
