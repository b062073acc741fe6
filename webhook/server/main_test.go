package server

import (
	"testing"

	"github.com/edgaze-ai/runcounter/store/postgres/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }
