package live

import (
	"testing"

	"github.com/edgaze-ai/runcounter/internal/need"
)

func TestMain(m *testing.M) { need.Main(m) }
