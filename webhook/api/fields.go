package api

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/gofiber/fiber/v2"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/webhook/internal/answer"
	"github.com/edgaze-ai/runcounter/webhook/internal/request"
	"github.com/edgaze-ai/runcounter/webhook/problem"
)

// fields reads the members of a JSON object or the parameters of a query, each
// by its name and type. The first thing that is wrong stays in err, so that a
// handler asks for all it needs and then looks once.
//
// A name that the address doesn't know is refused, and so is one in the wrong
// case: a typo in "limit" must not grant runs without one.
type fields struct {
	in    map[string]json.RawMessage
	known []param // all that the address knows
	err   error
}

// objectOf reads a JSON object with no other members than the known ones. An
// empty body is an object without members.
func objectOf(body []byte, known []param) *fields {
	f := &fields{known: known}
	if len(bytes.TrimSpace(body)) == 0 {
		return f
	}
	if !utf8.Valid(body) {
		return f.fail("The body is not UTF-8. Encode it as UTF-8.")
	}
	if err := json.Unmarshal(body, &f.in); err != nil || f.in == nil {
		return f.fail("The body is not a JSON object. Send one object such as {\"status\": \"completed\"} and nothing behind it.")
	}
	for name := range f.in {
		f.allow(name)
	}
	if name, twice := doubled(body); twice {
		f.fail("%q is given twice. Give it once.", request.Clip(name))
	}
	return f
}

// doubled returns a member that a valid JSON object has twice: of two limits
// the wrong one could be taken.
func doubled(body []byte) (string, bool) {
	seen := map[string]bool{}
	d := json.NewDecoder(bytes.NewReader(body))
	for depth, name := 0, true; ; {
		token, err := d.Token()
		if err != nil {
			return "", false
		}
		switch delim, ok := token.(json.Delim); {
		case ok && (delim == '{' || delim == '['):
			depth++
			name = true
		case ok:
			depth--
			name = true
		case depth == 1 && name:
			text, _ := token.(string)
			if seen[text] {
				return text, true
			}
			seen[text], name = true, false
		case depth == 1:
			name = true
		}
	}
}

// queryOf reads the query of a request with no other parameters than the known
// ones, each at most once where it is not one of several.
func queryOf(c *fiber.Ctx, known []param) *fields {
	f := &fields{in: map[string]json.RawMessage{}, known: known}
	for name, value := range c.Context().QueryArgs().All() {
		name := string(name)
		p := f.allow(name)
		if _, twice := f.in[name]; twice && !p.several {
			f.fail("%s is given twice. Give it once.", name)
		}
		switch _, err := strconv.ParseInt(string(value), 10, 64); {
		case err == nil:
			f.in[name] = bytes.Clone(value)
		case !utf8.Valid(value):
			f.fail("%s is not UTF-8. Encode it as UTF-8, then percent-encode it.", request.Clip(name))
		default:
			f.in[name] = answer.Encode(string(value))
		}
	}
	return f
}

// allow returns the parameter of a name, and refuses a name that is not known.
func (f *fields) allow(name string) param {
	if p, ok := paramOf(f.known, name); ok {
		return p
	}
	if len(f.known) == 0 {
		f.fail("%q is not known here; nothing is. Leave it out.", request.Clip(name))
		return param{}
	}
	names := make([]string, 0, len(f.known))
	for _, p := range f.known {
		names = append(names, p.name)
	}
	f.fail("%q is not known here. Known are %s.", request.Clip(name), strings.Join(names, ", "))
	return param{}
}

func (f *fields) fail(format string, args ...any) *fields {
	if f.err == nil {
		f.err = problem.New(fiber.StatusBadRequest, fmt.Sprintf(format, args...))
	}
	return f
}

// has reports whether the member is there and not null. It panics where the address is
// not described with it: a request that brings it is refused, so it would never be read.
func (f *fields) has(name string) bool {
	if _, ok := paramOf(f.known, name); !ok {
		panic(fmt.Sprintf("api: %s is read and not described: add it to the endpoint", name))
	}
	raw, ok := f.in[name]
	return ok && string(raw) != "null"
}

// text reads a string; "" where it is absent.
func (f *fields) text(name string) string {
	if !f.has(name) {
		return ""
	}
	var s string
	if err := json.Unmarshal(f.in[name], &s); err != nil {
		f.fail("%s must be a string.", name)
	}
	return s
}

// line reads a string of one line, at most so many bytes long.
func (f *fields) line(name string, most int) string { return f.short(name, f.text(name), most) }

func (f *fields) short(name, s string, most int) string {
	if len(s) > most || strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		f.fail("%s must be at most %d bytes long and hold no control characters.", name, most)
	}
	return s
}

// id reads an id, a string or a whole number; the zero ID where it is absent.
func (f *fields) id(name string) (id store.ID) {
	if !f.has(name) {
		return id
	}
	if err := id.UnmarshalJSON(f.in[name]); err != nil {
		f.fail("%s is %s. %s", name, err, idAdvice)
	}
	return id
}

// requiredID refuses a request without an id.
func (f *fields) requiredID(name string) {
	f.fail("%s is missing. Send the id as the table has it.", name)
}

const idAdvice = "Send the id as the table has it, a text of 1 to 255 bytes or a whole number."

// number reads a whole number that is not negative; nil where it is absent.
func (f *fields) number(name string) *int64 {
	if !f.has(name) {
		return nil
	}
	n, err := strconv.ParseInt(string(f.in[name]), 10, 64)
	if err != nil || n < 0 {
		f.fail("%s must be a whole number, and not negative.", name)
	}
	return &n
}

// status reads a status that is one of those by which the member is described.
func (f *fields) status(name string) store.Status {
	s := store.Status(f.text(name))
	p, _ := paramOf(f.known, name)
	if choices, _ := p.schema["enum"].([]store.Status); !slices.Contains(choices, s) {
		f.fail("%s must be one of %s.", name, strings.Trim(strings.ReplaceAll(fmt.Sprint(choices), " ", ", "), "[]"))
	}
	return s
}

// pageSize reads max, the number of rows in a page.
func (f *fields) pageSize() int {
	size := int64(defaultPage)
	if most := f.number("max"); most != nil {
		size = *most
	}
	if size < 1 || size > maxPage {
		f.fail("max must be between 1 and %d.", maxPage)
	}
	return int(min(size, maxPage))
}

// choice reads one of some words; "" where it is absent.
func (f *fields) choice(name string, choices ...string) string {
	word := f.text(name)
	if word != "" && !slices.Contains(choices, word) {
		f.fail("%s must be one of %s.", name, strings.Join(choices, ", "))
	}
	return word
}

// json reads any value as it stands.
func (f *fields) json(name string) store.JSON {
	if !f.has(name) {
		return ""
	}
	return store.JSON(f.in[name])
}

// time reads a moment in RFC 3339; the zero time where it is absent.
func (f *fields) time(name string) time.Time {
	if !f.has(name) {
		return time.Time{}
	}
	t, err := time.Parse(time.RFC3339, f.text(name))
	if err != nil || t.IsZero() {
		f.fail("%s must be a time such as 2026-01-31T12:00:00Z.", name)
	}
	return t
}

// bool reads true or false; false where it is absent.
func (f *fields) bool(name string) (b bool) {
	if f.has(name) && json.Unmarshal(f.in[name], &b) != nil {
		f.fail("%s must be true or false.", name)
	}
	return b
}

// object makes a handler of one that reads a JSON object. The memory of all
// such bodies together is bounded; a body takes twice its size, since its
// members are copied out of it.
func (a *API) object(known []param, handle func(*fiber.Ctx, *fields) error) fiber.Handler {
	return func(c *fiber.Ctx) error {
		b, err := request.NewBody(c, a.cfg.Limits.Body, a.cfg.Limits.Time)
		if err != nil {
			return err
		}
		if b.Length() != 0 {
			if err := request.RequireJSON(c); err != nil {
				return err
			}
		}
		weight := 2 * b.Length()
		if b.Length() < 0 {
			weight = 2 * a.cfg.Limits.Body
		}
		wait, cancel := context.WithTimeout(context.Background(), a.cfg.Limits.Wait)
		err = a.memory.Acquire(wait, weight)
		cancel()
		if err != nil {
			return problem.ErrBusy
		}
		defer a.memory.Release(weight)
		var raw bytes.Buffer
		raw.Grow(int(max(b.Length(), 0)) + bytes.MinRead) // never to grow again, where the length is known
		if _, err := raw.ReadFrom(b); err != nil {
			return err
		}
		f := objectOf(raw.Bytes(), known)
		if f.err != nil {
			return f.err
		}
		return handle(c, f)
	}
}
