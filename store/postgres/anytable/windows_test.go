package anytable

import (
	"slices"
	"strings"
	"testing"

	"github.com/edgaze-ai/runcounter/internal/need"
	"github.com/edgaze-ai/runcounter/store/storetest"
	"github.com/edgaze-ai/runcounter/store/watched"
	"github.com/edgaze-ai/runcounter/store/watched/watchedtest"
)

// TestWindowsOfOtherTimes draws windows of tables whose ends are no timestamptz: of UTC,
// of a zone with summer time, and numbers.
func TestWindowsOfOtherTimes(t *testing.T) {
	need.Serial(t)
	t.Parallel()
	tables := slices.DeleteFunc(watchedtest.All(), func(f watchedtest.Found) bool {
		_, typ, there := f.Has(watched.CompletedAt)
		return f.Refused != "" || !there || strings.HasPrefix(typ, "timestamptz") || f.AnyCase() || silent(f)
	})
	for _, f := range tables {
		t.Run(f.Name, func(t *testing.T) {
			t.Parallel()
			storetest.Windows(t, openFound(f, 0), storetest.DrawnWindows()/len(tables))
		})
	}
}
