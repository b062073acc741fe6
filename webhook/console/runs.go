package console

import (
	"context"
	"errors"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/gofiber/fiber/v2"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/webhook/internal/request"
	"github.com/edgaze-ai/runcounter/webhook/problem"
)

const (
	// runsWithin bounds the time of a page of runs whose filter no index may carry, and
	// tabWithin that of the number on a tab, which can be left out.
	runsWithin = 2 * time.Second
	tabWithin  = 300 * time.Millisecond
	// tabMost bounds the number on a tab.
	tabMost = 1000
	// stuckRuns are those that the next sweep ends or repairs: no state of a run, since
	// they are told by the time and the limits.
	stuckRuns = "stuck"
)

// runTab is a list of runs, beside the others.
type runTab struct {
	State string
	Href  string
	Count string // empty where it is not known
}

type runsData struct {
	State    string
	Tabs     []runTab
	Statuses []store.Status
	Source   bool

	// The filter, as it was sent.
	User, From, To string
	Status         store.Status
	Oldest         bool

	Runs       []store.ListedRun
	Stuck      []store.Repaired
	More       bool // stuck ones than are shown
	TooSlow    bool
	Prev, Next string
}

// Filtered reports whether the list is of some of the runs in its state.
func (d runsData) Filtered() bool {
	return d.User != "" || d.Status != "" || d.From != "" || d.To != ""
}

// runs is the list of the runs in a state.
func (c *Console) runs(f *fiber.Ctx, who session) error {
	if id, err := optionalID(f, "id"); err != nil {
		return err
	} else if !id.IsZero() {
		return f.Redirect(runPath(id), fiber.StatusSeeOther)
	}
	d := runsData{
		State: f.Query("state", string(store.ActiveRuns)), Source: c.cfg.Source, Statuses: append([]store.Status{store.Pending, store.Running, store.Cancelling}, store.Terminals[:]...),
	}
	q, err := d.query(f)
	if err != nil {
		return err
	}
	if d.State == stuckRuns {
		q.State = store.ActiveRuns // for the tabs
		d.Stuck, d.More, err = c.stuck(f.UserContext(), 2*pageRows)
	} else {
		err = c.listRuns(f, &d, q)
	}
	if err != nil {
		return err
	}
	c.tabs(f, &d, q)
	return c.show(f, who, "runs", "Runs", d)
}

// query reads the filter of a list.
func (d *runsData) query(f *fiber.Ctx) (q store.RunQuery, err error) {
	if q.State, err = store.ParseRunState(d.State); err != nil && d.State != stuckRuns {
		return q, problem.New(fiber.StatusBadRequest, "There is no such list: choose active, ended, stuck, presumed, superseded or odd.")
	}
	if q.User, err = optionalID(f, "user"); err != nil {
		return q, err
	}
	d.User, d.Status, d.From, d.To, d.Oldest = q.User.String(), store.Status(f.Query("status")), f.Query("from"), f.Query("to"), f.Query("order") == "oldest"
	q.Status, q.Oldest, q.Within = d.Status, d.Oldest, runsWithin
	if q.In.From, err = momentIn(d.From); err != nil {
		return q, err
	}
	if q.In.To, err = momentIn(d.To); err != nil {
		return q, err
	}
	if q.In.Validate() != nil {
		return q, problem.New(fiber.StatusBadRequest, "The time ends before it begins. Swap From and To.")
	}
	q.After, err = cursorOf(f)
	return q, err
}

// momentIn reads a time of a form, in UTC: a day, a minute, or a whole one.
func momentIn(text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	for _, layout := range []string{"2006-01-02T15:04", "2006-01-02T15:04:05", time.DateOnly, time.RFC3339Nano} {
		if at, err := time.Parse(layout, text); err == nil {
			return store.Instant(at), nil
		}
	}
	return time.Time{}, problem.New(fiber.StatusBadRequest, strconv.QuoteToGraphic(request.Clip(text))+" is no time: write it as 2026-01-31T12:00, in UTC.")
}

// listRuns reads a page, and where the ones before and behind it begin.
func (c *Console) listRuns(f *fiber.Ctx, d *runsData, q store.RunQuery) error {
	back := f.Query("back") != ""
	q.Oldest, q.Limit = q.Oldest != back, pageRows+1
	runs, err := c.cfg.Reader.SearchRuns(f.UserContext(), q)
	if errors.Is(err, store.ErrTooSlow) {
		d.TooSlow = true
		return nil
	}
	if err != nil {
		return err
	}
	runs, beyond := more(runs)
	if back {
		slices.Reverse(runs)
	}
	if d.Runs = runs; len(runs) == 0 {
		return nil
	}
	first, last := runs[0].Cursor(), runs[len(runs)-1].Cursor()
	if beyond && back || !back && !q.After.At.IsZero() {
		d.Prev = next(f, append(cursorQuery(first), "back", "1")...)
	}
	if beyond || back {
		d.Next = next(f, append(cursorQuery(last), "back", "")...)
	}
	return nil
}

// stuck is what the next sweep would do, up to a bound, and whether there is more.
func (c *Console) stuck(ctx context.Context, most int) (stuck []store.Repaired, more bool, err error) {
	stuck, err = c.cfg.Store.FailStuck(ctx, store.FailStuck{Now: store.Instant(c.cfg.Now()), Limits: c.cfg.Limits, Max: most + 1, DryRun: true})
	if len(stuck) > most {
		return stuck[:most], true, err
	}
	return stuck, false, err
}

// tabs says how many runs of the filter each list has. A number that takes too long is
// left out.
func (c *Console) tabs(f *fiber.Ctx, d *runsData, q store.RunQuery) {
	filter := url.Values{}
	for name, value := range map[string]string{"user": d.User, "status": string(d.Status), "from": d.From, "to": d.To} {
		if value != "" {
			filter.Set(name, value)
		}
	}
	q.After, q.Limit, q.Within = store.Cursor{}, tabMost+1, tabWithin
	for _, state := range []string{string(store.ActiveRuns), stuckRuns, string(store.EndedRuns), string(store.PresumedRuns), string(store.SupersededRuns), string(store.OddRuns)} {
		filter.Set("state", state)
		tab := runTab{State: state, Href: "/runs?" + filter.Encode()}
		if state == stuckRuns {
			tab.Href = "/runs?state=" + stuckRuns // a sweep knows no filter
			if d.State == stuckRuns {
				tab.Count = bounded(len(d.Stuck), d.More)
			}
		} else {
			q.State = store.RunState(state)
			if n, err := c.cfg.Reader.CountRuns(f.UserContext(), q); err == nil {
				tab.Count = bounded(min(n, tabMost), n > tabMost)
			}
		}
		d.Tabs = append(d.Tabs, tab)
	}
}

// bounded writes a number that may be greater than it is known to be.
func bounded(n int, more bool) string {
	text := strconv.Itoa(n)
	if n >= 1000 {
		text = text[:len(text)-3] + "," + text[len(text)-3:]
	}
	if more {
		text += "+"
	}
	return text
}
