package console

import (
	"html/template"
	"net/url"
	"strconv"
	"time"

	"github.com/edgaze-ai/runcounter/internal/version"
	"github.com/edgaze-ai/runcounter/store"
)

// shownID is an id on a page: its beginning and its end, with the whole one to copy.
type shownID struct {
	Whole string
	Short string
	Href  string // of its page; empty where there is none
}

// Bounds of an id on a page: one of up to wholeID characters is shown as it is, a
// longer one by its first and last. The last are needed: the ids of UUID version 7
// that were made in the same minutes begin alike.
const (
	wholeID   = 16
	firstOfID = 8
	lastOfID  = 4
)

// short is the beginning and the end of an id that may be long.
func short(id store.ID) string {
	text := []rune(named(id))
	if len(text) <= wholeID {
		return string(text)
	}
	return string(text[:firstOfID]) + "…" + string(text[len(text)-lastOfID:])
}

func shownAs(id store.ID, href string) shownID { return shownID{named(id), short(id), href} }

// exact is a moment as all pages write it.
func exact(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05") + " UTC" }

// longAgo is the age from which a date says more than the number of days.
const longAgo = 30 * 24 * time.Hour

// relative says how long before or after now a moment is, and of one that is far away
// its date. The script of the pages does the same, as time passes.
func relative(t, now time.Time) string {
	d := now.Sub(t)
	size := d.Abs()
	if size >= longAgo {
		return t.UTC().Format(time.DateOnly)
	}
	n, unit := int64(size/time.Second), "s"
	switch {
	case size < time.Second:
		return "now"
	case size >= 24*time.Hour:
		n, unit = int64(size/(24*time.Hour)), "d"
	case size >= time.Hour:
		n, unit = int64(size/time.Hour), "h"
	case size >= time.Minute:
		n, unit = int64(size/time.Minute), "min"
	}
	text := strconv.FormatInt(n, 10) + " " + unit
	if d < 0 {
		return "in " + text
	}
	return text + " ago"
}

// timeTag is a moment on a page. Both texts are digits and words of this file, so
// there is nothing to escape.
func timeTag(t time.Time, title, text string) template.HTML {
	if title != "" {
		title = ` title="` + title + `"`
	}
	return template.HTML(`<time datetime="` + t.UTC().Format(time.RFC3339Nano) + `"` + title + `>` + text + `</time>`) //nolint:gosec // see above
}

// functions are those of the templates.
func functions(now func() time.Time) template.FuncMap {
	return template.FuncMap{
		"build": func() string { return version.This().String() },
		"time": func(t time.Time) template.HTML {
			if t.IsZero() {
				return "–"
			}
			return timeTag(t, exact(t), relative(t, now()))
		},
		"exact": func(t time.Time) template.HTML {
			if t.IsZero() {
				return "–"
			}
			return timeTag(t, "", exact(t))
		},
		"now": func() string { return now().UTC().Format(time.RFC3339Nano) },
		"since": func(state string) string {
			switch store.RunState(state) {
			case store.EndedRuns, store.PresumedRuns:
				return "Ended"
			case store.SupersededRuns:
				return "Repaired"
			}
			return "Created"
		},
		"fates":  fates,
		"share":  func(u store.Usage) string { return figure(float64(u.Used())) + " of " + figure(float64(u.Ceiling())) },
		"ofAll":  func(k store.Key) shownID { return shownAs(k.Ref, "/counts?ref="+url.QueryEscape(k.Ref.String())) },
		"figure": func(n int64) string { return figure(float64(n)) },
		"json":   func(j store.JSON) string { return string(j) },
		"ago":    func(d time.Duration) string { return d.Round(time.Second).String() },
		"keyed":  func(k store.Key) string { return "/counts/" + keyPath(k) },
		"granted": func(of store.Scope) *store.Key {
			key, one := of.Key()
			if !one {
				return nil
			}
			return &key
		},
		"changes":  func(k store.Key) string { return "/console/events?key=" + url.QueryEscape(keyPath(k)) },
		"run":      runPath,
		"short":    short,
		"named":    named,
		"id":       func(id store.ID) shownID { return shownAs(id, "") },
		"runID":    func(id store.ID) shownID { return shownAs(id, runPath(id)) },
		"userID":   func(id store.ID) shownID { return shownAs(id, userPath(id)) },
		"grantsOf": func(id store.ID) shownID { return shownAs(id, "/grants?user="+url.QueryEscape(id.String())) },
		"countOf":  func(k store.Key) shownID { return shownAs(k.Ref, "/counts/"+keyPath(k)) },
		"quantity": func(n int, one, many string) string { return store.Quantity(int64(n), one, many) },
		"bytes": func(n int64) string {
			switch {
			case n < 10<<10:
				return strconv.FormatInt(n, 10) + " bytes"
			case n < 10<<20:
				return strconv.FormatInt(n>>10, 10) + " KiB"
			}
			return strconv.FormatInt(n>>20, 10) + " MiB"
		},
	}
}

// userPath is the address of a user's counts; none for no user.
func userPath(id store.ID) string {
	if id.String() == "" {
		return ""
	}
	return "/counts?user=" + url.QueryEscape(id.String())
}

// fateShown is the number of calls that had one fate.
type fateShown struct {
	Name, Class string
	Calls       int64
}

// fates are the fates of calls, and of the losses those that there are.
func fates(d store.Deliveries) (all []fateShown) {
	for _, fate := range store.Fates {
		n := d.Calls[fate]
		switch {
		case fate.Lost() && n > 0:
			all = append(all, fateShown{"Calls that " + fate.What(), "lost", n})
		case !fate.Lost():
			all = append(all, fateShown{"Calls that " + fate.What(), "", n})
		}
	}
	return all
}
