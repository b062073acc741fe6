package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/webhook/api"
)

// senders is the number of connections that deliver at once.
const senders = 32

// Deliver posts all deliveries to a receiver over many connections, while two recounters
// race beside them for the same keys. Progress is called after each delivery, with the
// number that were taken.
func (w *World) Deliver(ctx context.Context, url string, recount func(context.Context, store.Key) error, progress func(done int64)) error {
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: senders}, Timeout: time.Minute}
	defer client.CloseIdleConnections()
	racing, ctx := errgroup.WithContext(ctx)
	for range 2 {
		racing.Go(func() error {
			for _, race := range w.Recounts {
				if err := recount(ctx, race.Key); err != nil {
					return fmt.Errorf("recount: %w", err)
				}
			}
			return nil
		})
	}
	racing.Go(func() error {
		var mu sync.Mutex
		var done int64
		sending, ctx := errgroup.WithContext(ctx)
		sending.SetLimit(senders)
		for _, a := range w.Arrivals {
			sending.Go(func() error {
				if err := postUntilTaken(ctx, client, url, a.Body); err != nil {
					return err
				}
				mu.Lock()
				defer mu.Unlock()
				done++
				progress(done)
				return nil
			})
		}
		return sending.Wait()
	})
	return racing.Wait()
}

// postUntilTaken sends one delivery, again where the server asks for it.
func postUntilTaken(ctx context.Context, client *http.Client, url string, body []byte) error {
	for {
		req, err := api.NewDelivery(ctx, url, body)
		if err != nil {
			return err
		}
		_, err = api.Send(client, req)
		if refused, ok := errors.AsType[*api.Refusal](err); !ok || refused.Code != http.StatusServiceUnavailable {
			return err
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// CountsAt asks a server for the count of every key.
func (w *World) CountsAt(ctx context.Context, base string) (map[store.Key]int64, error) {
	counts := map[store.Key]int64{}
	for _, key := range w.Keys {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("%s/v1/counts?user_id=%s&workflow_id=%s", base, key.User, key.Ref), nil)
		if err != nil {
			return nil, err
		}
		text, err := api.Send(http.DefaultClient, req)
		var answer struct{ Count int64 }
		if err == nil {
			err = json.Unmarshal(text, &answer)
		}
		if err != nil {
			return nil, fmt.Errorf("ask for the count of %s: %w", key, err)
		}
		counts[key] = answer.Count
	}
	return counts, nil
}
