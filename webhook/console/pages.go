package console

import (
	"cmp"
	"context"
	"encoding/base64"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/gofiber/fiber/v2"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/webhook"
	"github.com/edgaze-ai/runcounter/webhook/internal/request"
	"github.com/edgaze-ai/runcounter/webhook/problem"
)

// pageRows is the number of rows in a page of a list.
const pageRows = 50

// more cuts a list, of which one row more than a page was asked for, and says
// whether there is a next page.
func more[T any](rows []T) ([]T, bool) {
	if len(rows) > pageRows {
		return rows[:pageRows], true
	}
	return rows, false
}

// next is the address of a list's next page: the present one, with what names
// the place, and without what is empty.
func next(f *fiber.Ctx, places ...string) string {
	q := url.Values{}
	for name, value := range f.Context().QueryArgs().All() {
		if string(name) != "done" {
			q.Set(string(name), string(value))
		}
	}
	for pair := range slices.Chunk(places, 2) {
		if q.Set(pair[0], pair[1]); pair[1] == "" {
			q.Del(pair[0])
		}
	}
	return f.Path() + "?" + q.Encode()
}

// optionalID reads an id that may be left out.
func optionalID(f *fiber.Ctx, name string) (store.ID, error) {
	text := strings.Clone(f.Query(name)) // which is the request's
	if text == "" {
		return store.ID{}, nil
	}
	id, err := store.ParseID(text)
	if err != nil {
		return store.ID{}, problem.New(fiber.StatusBadRequest, strconv.QuoteToGraphic(request.Clip(text))+" is "+err.Error()+". Copy the id as the table has it.")
	}
	return id, nil
}

type overviewData struct {
	Verdict  verdict
	Health   *store.Health // nil where it can't be read
	Policy   string
	Timeline timeline
	Webhooks store.Deliveries
	Business *business // nil where it was not read yet
	Asks     bool      // it is read
	Swept    store.SweepStatus
	Streams  int
}

// overview is the first page: what is wrong, and what happens. It is shown while the
// database is away, too: it says so.
func (c *Console) overview(f *fiber.Ctx, who session) error {
	d := overviewData{Verdict: c.verdict(), Timeline: c.timeline(spanNamed(f.Query("span"))), Webhooks: c.webhooks(), Swept: c.swept(), Asks: c.cfg.Statistics != nil, Business: c.business(), Streams: c.cfg.Streams.Open()}
	if health, err := c.cfg.Health(); err == nil {
		d.Health = &health
	}
	if policy, err := c.policy.Get(c.cfg.Now, policyFor, askShare, func() (store.Policy, error) {
		ctx, cancel := context.WithTimeout(f.UserContext(), askWithin)
		defer cancel()
		return c.cfg.Reader.Policy(ctx)
	}); err == nil {
		d.Policy = policy.String()
	}
	return c.show(f, who, "overview", "Overview", d)
}

// Odd is the number of runs that deserve a look.
func (d overviewData) Odd() int64 { return odd(*d.Health) }

func odd(h store.Health) int64 { return h.NoKey + h.UnknownStatus + h.EndedTooSoon }

func (c *Console) swept() store.SweepStatus {
	if c.cfg.Swept == nil {
		return store.SweepStatus{}
	}
	return c.cfg.Swept()
}

type countsData struct {
	User, Ref string
	Counts    []store.Count
	Next      string
}

// counts is the list of the counts, by user and workflow or draft.
func (c *Console) counts(f *fiber.Ctx, who session) error {
	user, err := optionalID(f, "user")
	if err != nil {
		return err
	}
	ref, err := optionalID(f, "ref")
	if err != nil {
		return err
	}
	q := store.CountQuery{User: user, Ref: ref, Limit: pageRows + 1}
	if after := f.Query("after"); after != "" {
		if q.After, err = parseKeyPath(after); err != nil {
			return err
		}
	}
	counts, err := c.cfg.Reader.SearchCounts(f.UserContext(), q)
	if err != nil {
		return err
	}
	d := countsData{User: user.String(), Ref: ref.String()}
	var has bool
	if d.Counts, has = more(counts); has {
		d.Next = next(f, "after", keyPath(d.Counts[pageRows-1].Key))
	}
	return c.show(f, who, "counts", "Counts", d)
}

// runPath is the address of a run's page.
func runPath(id store.ID) string { return "/runs/" + url.PathEscape(id.String()) }

// named is an id for a page: a dash for one that is absent.
func named(id store.ID) string {
	return cmp.Or(id.String(), "–")
}

// keyPath names a key in an address, and parseKeyPath reads it. An id may hold a
// slash.
func keyPath(k store.Key) string {
	return idPath(k.User) + "/" + string(k.Kind) + "/" + idPath(k.Ref)
}

// nothing is [store.Absent] in an address: no id is written so, since one of that
// text has its star escaped.
const nothing = "*"

func idPath(id store.ID) string {
	if id == store.Absent {
		return nothing
	}
	return url.PathEscape(id.String())
}

func parseIDPath(text string) (store.ID, error) {
	if text == nothing {
		return store.Absent, nil
	}
	return request.UnescapeID(text)
}

func parseKeyPath(text string) (store.Key, error) {
	parts := strings.Split(text, "/")
	if len(parts) == 3 {
		user, err := parseIDPath(parts[0])
		ref, err2 := parseIDPath(parts[2])
		for _, kind := range [...]store.Kind{store.KindWorkflow, store.KindDraft, store.KindAll} {
			if err == nil && err2 == nil && parts[1] == string(kind) && (kind == store.KindAll) == (ref == store.Absent) {
				// Our own constant: the text is the request's, and a stream keeps the key.
				return store.Key{User: user, Kind: kind, Ref: ref}, nil
			}
		}
	}
	return store.Key{}, problem.New(fiber.StatusBadRequest, "This address names no count: it is /counts/USER/workflow/WORKFLOW or /counts/USER/draft/DRAFT, with the ids percent-encoded.")
}

func keyOf(f *fiber.Ctx) (store.Key, error) {
	return parseKeyPath(f.Params("user") + "/" + f.Params("kind") + "/" + f.Params("ref"))
}

type keyData struct {
	store.KeyHistory
	Rows     []tallyRow
	Drift    bool
	Grants   []shownGrant
	Granting string // the address of the form that gives some; empty where there are none
	Chart    days
	Not      []store.Run // the latest that ended and do not count
}

// tallyRow is a status with what is stored of it and what the runs say.
type tallyRow struct {
	Status         store.Status
	Stored, Actual int64
	Presumed       int64
	Counts         bool
}

func tallyRows(h store.KeyHistory) (rows []tallyRow) {
	for _, status := range store.Terminals {
		rows = append(rows, tallyRow{
			status, h.Drift.Stored.Ended.Of(status), h.Drift.Actual.Ended.Of(status),
			h.Drift.Stored.Presumed.Of(status), h.Policy.Counts(status, false),
		})
	}
	return rows
}

// key is one count, and how it came about.
func (c *Console) key(f *fiber.Ctx, who session) error {
	key, err := keyOf(f)
	if err != nil {
		return err
	}
	h, err := c.cfg.Reader.KeyHistory(f.UserContext(), key, runsLooked)
	if err != nil {
		return err
	}
	d := keyData{KeyHistory: h, Rows: tallyRows(h), Drift: h.Drift.Wrong(), Not: uncounted(h)}
	d.Runs = h.Runs[:min(len(h.Runs), pageRows)]
	if d.Chart, err = c.daysOf(f.UserContext(), h); err != nil {
		return err
	}
	if c.cfg.Grants != nil {
		d.Granting = newGrantPath(key.Scope())
		if d.Grants, _, err = c.shownGrants(f, store.GrantQuery{Of: key.Scope()}, keyGrants); err != nil {
			return err
		}
	}
	return c.show(f, who, "key", "Count", d)
}

func cursorQuery(p store.Cursor) []string {
	return []string{"at", strconv.FormatInt(p.At.UnixMicro(), 10), "after", p.ID.String()}
}

func cursorOf(f *fiber.Ctx) (p store.Cursor, err error) {
	if f.Query("at") == "" {
		return p, nil
	}
	micros, err := strconv.ParseInt(f.Query("at"), 10, 64)
	if err != nil {
		return p, problem.New(fiber.StatusBadRequest, "This address names no place in the list. Begin at its first page.")
	}
	p.At = time.UnixMicro(micros).UTC()
	p.ID, err = optionalID(f, "after")
	return p, err
}

type runData struct {
	store.History
	ID      store.ID
	Verdict string
}

// run is one run's history.
func (c *Console) run(f *fiber.Ctx, who session) error {
	d, err := c.history(f)
	if err != nil {
		return err
	}
	if !d.Found {
		f.Status(fiber.StatusNotFound)
	}
	return c.show(f, who, "run", "Run", d)
}

func (c *Console) history(f *fiber.Ctx) (d runData, err error) {
	if d.ID, err = request.PathID(f, "id", "id of the run"); err != nil {
		return d, err
	}
	d.History, err = c.cfg.Reader.History(f.UserContext(), d.ID)
	if d.Found {
		d.Verdict = d.Run.Verdict(d.Policy)
	}
	return d, err
}

type letterData struct {
	store.DeadLetter
	Text   string // of the body
	Base64 bool   // since it is no text
	Cut    bool   // of what is shown
	Do     string // what is asked: replay or drop
}

// shownBytes bounds what a page shows of a dead letter's body.
const shownBytes = 64 << 10

func (c *Console) letter(f *fiber.Ctx) (d letterData, err error) {
	seq, err := request.PathSeq(f, "dead letter", "/v1/dead-letters")
	if err != nil {
		return d, err
	}
	found, err := c.cfg.Letters.DeadLetters(f.UserContext(), store.DeadLetterQuery{Seq: seq, Limit: 1})
	if err != nil {
		return d, err
	}
	if len(found) == 0 {
		return d, webhook.ErrNoLetter
	}
	d.DeadLetter = found[0]
	body := d.Body
	if d.Cut = len(body) > shownBytes; d.Cut {
		body = body[:shownBytes]
	}
	d.Text = strings.ToValidUTF8(string(body), "\uFFFD")
	if !utf8.Valid(d.Body) && !d.Cut {
		d.Text, d.Base64 = base64.StdEncoding.EncodeToString(body), true
	}
	return d, nil
}

func (c *Console) deadLetter(f *fiber.Ctx, who session) error {
	d, err := c.letter(f)
	if err != nil {
		return err
	}
	return c.show(f, who, "dead-letter", "Dead letter", d)
}

type repairsData struct {
	Of        string
	Repairs   []store.ListedRepair
	Recounts  []store.ListedRecount
	Decisions []store.Amendment
	Next      string
}

// repairs lists what was repaired, recounted and decided, before and after.
func (c *Console) repairs(f *fiber.Ctx, who session) (err error) {
	d := repairsData{Of: f.Query("of", "runs")}
	before := int64(0)
	if text := f.Query("before"); text != "" {
		if before, err = strconv.ParseInt(text, 10, 64); err != nil {
			return problem.New(fiber.StatusBadRequest, "This address names no place in the list. Begin at its first page.")
		}
	}
	var has bool
	switch d.Of {
	case "runs":
		after, err := cursorOf(f)
		if err != nil {
			return err
		}
		d.Repairs, err = c.cfg.Reader.Repairs(f.UserContext(), after, pageRows)
		if err != nil {
			return err
		}
		if n := len(d.Repairs); n >= pageRows {
			d.Next = next(f, cursorQuery(store.Cursor{At: d.Repairs[n-1].Last, ID: d.Repairs[n-1].ID})...)
		}
	case "counts":
		d.Recounts, err = c.cfg.Reader.Recounts(f.UserContext(), before, pageRows+1)
		if d.Recounts, has = more(d.Recounts); has {
			d.Next = next(f, "before", strconv.FormatInt(d.Recounts[pageRows-1].Seq, 10))
		}
	case "decisions":
		d.Decisions, err = c.cfg.Reader.Amendments(f.UserContext(), before, pageRows+1)
		if d.Decisions, has = more(d.Decisions); has {
			d.Next = next(f, "before", strconv.FormatInt(d.Decisions[pageRows-1].Seq, 10))
		}
	default:
		return problem.New(fiber.StatusBadRequest, "There is no such list: choose runs, counts or decisions.")
	}
	if err != nil {
		return err
	}
	return c.show(f, who, "repairs", "Repairs", d)
}

// doctor shows doctor's lines.
func (c *Console) doctor(f *fiber.Ctx, who session) error {
	if c.cfg.Doctor == nil {
		return problem.New(fiber.StatusNotFound, "This server was made without a doctor.").Because(errNoConsole)
	}
	return c.show(f, who, "doctor", "Doctor", c.cfg.Doctor(f.UserContext()))
}
