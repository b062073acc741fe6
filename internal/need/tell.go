package need

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
)

// tellVariable names a file in which a run of tests says what else is to be done
// with some of them, for .ci/run: a line for each, of a word, the package's
// directory, and the test. The words:
//
//	once      the race detector left it out: it is to run without
//	serial    the race detector left it out: it is to run without, on each PostgreSQL
//	smaller   the race detector left out a part of it: it is to run without, and where
//	          it has asked for a PostgreSQL, on each
//	postgres  it has asked for a PostgreSQL: it is to run on the other as well
const tellVariable = "RUNCOUNTER_TEST_TELL"

var (
	packageDir, _ = os.Getwd() // before a test goes elsewhere
	written       sync.Map     // the lines so far
)

func tell(t testing.TB, word string) {
	t.Helper()
	path := os.Getenv(tellVariable)
	if path == "" {
		return
	}
	test, _, _ := strings.Cut(t.Name(), "/")
	line := fmt.Sprintf("%s %s %s\n", word, packageDir, test)
	if _, before := written.LoadOrStore(line, true); before {
		return
	}
	file, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600) //nolint:gosec // .ci/run says where
	if err != nil {
		t.Fatal(err)
	}
	_, err = file.WriteString(line)
	if err := errors.Join(err, file.Close()); err != nil {
		t.Fatal(err)
	}
}
