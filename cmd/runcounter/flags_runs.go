package main

import (
	"time"

	"github.com/urfave/cli/v3"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/webhook/api"
)

// runsWithin bounds the time that a list of runs may take.
const runsWithin = 30 * time.Second

// runsOf reads which runs are meant.
func runsOf(cmd *cli.Command) (q store.RunQuery, stuck bool, err error) {
	q = store.RunQuery{State: store.OddRuns, Status: store.Status(cmd.String("status")), Oldest: cmd.Bool("oldest"), Limit: cmd.Int("max"), Within: runsWithin}
	if q.Limit < 1 || q.Limit > maxListed {
		return q, false, badUsage("--max must be 1 or more, and at most %d", maxListed)
	}
	switch {
	case cmd.Bool("odd") && cmd.IsSet("state"):
		return q, false, badUsage("--odd is a state of its own: leave out --state")
	case cmd.Bool("odd"):
	case !cmd.IsSet("state"):
		q.State = store.ActiveRuns
	default:
		state, err := oneOf(cmd, "state", string(store.ActiveRuns), string(store.EndedRuns), string(store.PresumedRuns), string(store.SupersededRuns), string(store.OddRuns), stuckRuns)
		if err != nil {
			return q, false, err
		}
		q.State, stuck = store.RunState(state), state == stuckRuns
	}
	for _, other := range []string{"user", "status", "from", "to", "oldest", "after"} {
		if stuck && cmd.IsSet(other) {
			return q, false, badUsage("what is stuck is listed as a sweep finds it: leave out --%s", other)
		}
	}
	if q.User, err = idOf(cmd, "user"); err != nil {
		return q, false, err
	}
	if q.In.From, err = timeOf(cmd, "from"); err != nil {
		return q, false, err
	}
	if q.In.To, err = timeOf(cmd, "to"); err != nil {
		return q, false, err
	}
	if after := cmd.String("after"); after != "" {
		var ok bool
		if q.After, ok = api.ParseCursor(after); !ok {
			return q, false, badUsage("--after %q is no place in a list: take it from the end of a page, or from next in its JSON", after)
		}
	}
	return q, stuck, q.In.Validate()
}
