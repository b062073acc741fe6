package server

import (
	"time"

	"github.com/edgaze-ai/runcounter/webhook"
	"github.com/edgaze-ai/runcounter/webhook/api"
	"github.com/edgaze-ai/runcounter/webhook/internal/conns"
	"github.com/edgaze-ai/runcounter/webhook/internal/request"
	"github.com/edgaze-ai/runcounter/webhook/live"
)

// limits bound what the server allows. Tests set their own.
type limits struct {
	body   int64 // bytes of a delivery
	api    int64 // bytes of a request to the API
	memory int64 // bytes that all requests to the API may hold at once

	known           webhook.AdmissionLimits
	unverified      webhook.AdmissionLimits
	unverifiedWhole time.Duration // for a whole body

	conns   int            // open connections
	streams int            // open at once; half of the connections at most
	watched int            // counts that all streams watch
	header  int            // bytes of a request's head
	time    request.Limits // for a body; Stall is also for the whole head
	wait    time.Duration  // for memory, and for the slot of a dead letter that is replayed
	idle    time.Duration  // between two requests of a connection
	call    time.Duration  // for one try of one transaction
}

func defaultLimits() limits {
	most := conns.Most(descriptors())
	return limits{
		body: 256 << 20, api: 32 << 20, memory: 64 << 20, wait: 4 * time.Second,
		known:      webhook.AdmissionLimits{Slots: 512, Large: 32, Huge: 2, Keep: 48 << 20},
		unverified: webhook.AdmissionLimits{Slots: 256, Large: 32, Huge: 1, Keep: 16 << 20},
		conns:      most, streams: min(live.MaxStreams, most/2), watched: live.MaxWatched, header: 16 << 10,
		time:            request.Limits{Stall: 30 * time.Second, Whole: 5 * time.Minute},
		unverifiedWhole: time.Minute, idle: 90 * time.Second, call: time.Minute,
	}
}

func (l limits) receiver() webhook.Limits {
	return webhook.Limits{
		Body: l.body, Known: l.known, Unverified: l.unverified, Time: l.time, UnverifiedWhole: l.unverifiedWhole, Wait: l.wait, Call: l.call,
	}
}

func (l limits) requests() api.Limits {
	return api.Limits{Body: l.api, Memory: l.memory, Wait: l.wait, Time: l.time}
}
