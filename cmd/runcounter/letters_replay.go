package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/edgaze-ai/runcounter/cmd/runcounter/internal/view"
	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/webhook"
	"github.com/edgaze-ai/runcounter/webhook/api"
)

// replayLetters replays those that are meant. That some stay is the answer "no".
func replayLetters(ctx context.Context, cmd *cli.Command, db backend, q store.DeadLetterQuery) error {
	decoder, err := decoderFor(ctx, cmd, db)
	if err != nil {
		return err
	}
	apply := func(ctx context.Context, changes []store.Change) ([]store.ApplyResult, error) {
		return db.Apply(ctx, changes, time.Now())
	}
	results, err := webhook.ReplayAll(ctx, db, q, func(seq int64) (webhook.Replayed, error) { return webhook.Replay(ctx, db, decoder, seq, apply) })
	if errors.Is(err, webhook.ErrNoLetter) {
		return err
	}
	if err != nil {
		return fmt.Errorf("%w; %s had been replayed by then: replay again, it is safe", err, store.Quantity(int64(len(results)), "dead letter", "dead letters"))
	}
	all := api.ReplaysOf(results)
	err = show(cmd, all, view.Replayed(all))
	if err == nil && all.Left > 0 {
		err = failed(nil)
	}
	return err
}
