package sqlite

import (
	"fmt"
	"testing"

	"github.com/edgaze-ai/runcounter/internal/need"
	"github.com/edgaze-ai/runcounter/store/storetest"
)

// TestCaseR9R14_ATableWithoutWorkflowsOrUsers is mirrored.
func TestCaseR9R14_ATableWithoutWorkflowsOrUsers(t *testing.T) {
	t.Parallel()
	for _, a := range []storetest.Absent{{Workflow: true}, {User: true}} {
		opens := func(t testing.TB) storetest.Backend {
			b := open(t)
			b.Absent = a
			return b
		}
		t.Run(fmt.Sprintf("%+v", a), func(t *testing.T) { storetest.RunAbsent(t, a, opens) })
		t.Run(fmt.Sprintf("%+v, chaos", a), func(t *testing.T) {
			need.NoRaceDetector(t)
			storetest.MirrorChaos(t, opens, 12)
		})
	}
}
