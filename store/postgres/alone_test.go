package postgres

import (
	"testing"

	"github.com/edgaze-ai/runcounter/internal/need"
)

func TestCaseO7_WithGoAloneNothingIsRed(t *testing.T) {
	t.Parallel()
	need.Alone(t, ".")
}
