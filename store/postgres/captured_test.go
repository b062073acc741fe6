package postgres

import (
	"bytes"
	"testing"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/storetest"
	"github.com/edgaze-ai/runcounter/webhook"
)

func TestCapturedRequests(t *testing.T) {
	t.Parallel()
	storetest.CapturedSource(t, open, func(body []byte) ([]store.Change, error) {
		d, err := webhook.Decoder{Schema: "public", Table: "workflow_runs"}.Decode(bytes.NewReader(body))
		return d.Changes, err
	})
}
