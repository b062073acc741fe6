package sqlite

import (
	"testing"

	"github.com/edgaze-ai/runcounter/store/storetest"
)

func TestMarks(t *testing.T) { storetest.MirrorMarks(t, open) }
