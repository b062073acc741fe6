package postgres

import (
	"testing"

	"github.com/edgaze-ai/runcounter/internal/need"
	"github.com/edgaze-ai/runcounter/store/storetest"
)

func TestWindows(t *testing.T) {
	need.Serial(t)
	storetest.Windows(t, open, storetest.DrawnWindows())
}
