package notify

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/edgaze-ai/runcounter/internal/version"
	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/webhook"
)

// send sends what is due, one after the other.
func (n *Notifier) send(ctx context.Context) {
	n.sendOwn(ctx)
	for ctx.Err() == nil {
		now := n.cfg.Now()
		notice, err := n.cfg.Box.TakeNotice(ctx, now, now.Add(lease))
		if err != nil || notice.ID == "" {
			return // look complains of a database that does not answer
		}
		due, told := n.try(ctx, notice)
		if !told {
			return // the program ends: the lease does
		}
		if err := n.cfg.Box.SettleNotice(ctx, notice.ID, due); err != nil {
			n.cfg.Log.Warn("could not note that operators were notified; they will be again, under the same id", "id", notice.ID, "error", err)
			return
		}
	}
}

// sendOwn sends what can't be kept in the database.
func (n *Notifier) sendOwn(ctx context.Context) {
	n.mu.Lock()
	own, due := n.own, n.next
	n.mu.Unlock()
	if due.IsZero() || due.After(n.cfg.Now()) {
		return
	}
	own.Tries++
	next, told := n.try(ctx, own)
	if !told {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.own.ID == own.ID && !n.next.IsZero() { // the database has not taken it over
		n.own, n.next = own, next
	}
}

// try sends a notice once, and returns when it is to be tried again: the zero time for
// never. It reports false where the context ended before it was known how that went.
func (n *Notifier) try(ctx context.Context, notice store.Notice) (again time.Time, told bool) {
	err := n.post(ctx, notice)
	switch {
	case err != nil && ctx.Err() != nil:
		return again, false
	case err == nil:
		n.ended.WithLabelValues("sent").Inc()
		n.cfg.Log.Info("operators were notified", "id", notice.ID, "of", notice.Subject, "state", notice.State)
		return again, true
	case notice.Tries > len(backoff):
		n.ended.WithLabelValues("given_up").Inc()
		n.cfg.Log.Error("operators could not be notified: given up", "id", notice.ID, "of", notice.Subject, "state", notice.State, "tries", notice.Tries, "error", err)
		return again, true
	}
	pause := backoff[max(notice.Tries, 1)-1]
	n.ended.WithLabelValues("retried").Inc()
	n.cfg.Log.Warn("operators could not be notified: trying again", "id", notice.ID, "in", pause.String(), "error", err)
	return n.cfg.Now().Add(pause), true
}

// post sends a notice. Its error does not hold the URL, whose path may be a secret.
func (n *Notifier) post(ctx context.Context, notice store.Notice) error {
	now := n.cfg.Now()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, n.cfg.URL, strings.NewReader(notice.Body))
	if err != nil {
		return errors.New("the URL can't be read")
	}
	var signatures []string
	for _, secret := range n.cfg.Secrets {
		signature, err := webhook.Sign(secret, notice.ID, now, []byte(notice.Body))
		if err != nil {
			return err
		}
		signatures = append(signatures, signature)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", version.This().UserAgent())
	req.Header.Set("webhook-id", notice.ID)
	req.Header.Set("webhook-timestamp", strconv.FormatInt(now.Unix(), 10))
	req.Header.Set("webhook-signature", strings.Join(signatures, " "))
	res, err := n.client.Do(req)
	if wrapped, ok := errors.AsType[*url.Error](err); ok {
		return wrapped.Err
	}
	if err != nil {
		return err
	}
	defer res.Body.Close() //nolint:errcheck // what was read is of no interest
	_, _ = io.CopyN(io.Discard, res.Body, 64<<10)
	if res.StatusCode/100 != 2 {
		return fmt.Errorf("the receiver answered %d", res.StatusCode)
	}
	return nil
}
