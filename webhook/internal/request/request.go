// Package request reads what handlers take of a request: its body within limits,
// ids in its path, its bearer token, and whether it comes from this machine. Its
// errors are problems. It imports webhook/problem and store.
package request

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"

	"github.com/gofiber/fiber/v2"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/webhook/problem"
)

// MaxReason bounds, in bytes, what is kept of a caller's words about a decision.
const MaxReason = 1000

// RequireJSON refuses a body that is not JSON by its headers. A web page can't make
// a browser send application/json to another site without asking first, so this
// also stops cross-site posts. Nothing is ever decompressed.
func RequireJSON(c *fiber.Ctx) error {
	kind, _, _ := strings.Cut(c.Get(fiber.HeaderContentType), ";")
	if !strings.EqualFold(strings.TrimSpace(kind), fiber.MIMEApplicationJSON) {
		return problem.New(fiber.StatusUnsupportedMediaType, "The body must be JSON, and say so: send the header Content-Type: application/json.")
	}
	for _, coding := range c.Request().Header.PeekAll(fiber.HeaderContentEncoding) {
		if !strings.EqualFold(strings.TrimSpace(string(coding)), "identity") {
			return problem.New(fiber.StatusUnsupportedMediaType, "Compressed bodies are not read. Send it as it is, without Content-Encoding.")
		}
	}
	return nil
}

// RequireLoopback refuses a request to an open server on loopback that a web page
// made: by a name of its own that it pointed to 127.0.0.1 (DNS rebinding), or
// from another site.
func RequireLoopback(c *fiber.Ctx) error {
	if !Loopback(string(c.Request().Header.Host())) {
		return problem.New(fiber.StatusForbidden, "Without a secret this server answers to loopback names alone: ask for http://127.0.0.1 or http://localhost, or configure a secret.")
	}
	if origin := c.Get(fiber.HeaderOrigin); origin != "" {
		if u, err := url.Parse(origin); err != nil || !Loopback(u.Host) {
			return problem.New(fiber.StatusForbidden, "Without a secret this server refuses requests from web pages of other sites. Configure a secret.")
		}
	}
	return nil
}

// Loopback reports whether host, with or without a port, names this machine.
func Loopback(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip := net.ParseIP(strings.Trim(host, "[]"))
	return ip != nil && ip.IsLoopback()
}

// Bearer returns the token of an Authorization header, and whether the scheme is
// Bearer or the header is absent.
func Bearer(authorization string) (token string, ok bool) {
	scheme, token, _ := strings.Cut(strings.TrimSpace(authorization), " ")
	if scheme == "" {
		return "", true
	}
	if !strings.EqualFold(scheme, "Bearer") {
		return "", false
	}
	return strings.TrimSpace(token), true
}

// PathID reads a percent-encoded id from the path; what says in words what it
// names.
func PathID(c *fiber.Ctx, name, what string) (store.ID, error) {
	id, err := UnescapeID(c.Params(name))
	if err != nil {
		return store.ID{}, problem.New(fiber.StatusBadRequest, fmt.Sprintf("The %s in the path is %s. Write the id as the table has it, percent-encoded.", what, err))
	}
	return id, nil
}

// UnescapeID reads a percent-encoded id. It is copied: the text is the request's,
// and a stream keeps the id.
func UnescapeID(text string) (store.ID, error) {
	plain, err := url.PathUnescape(text)
	if err != nil {
		return store.ID{}, errors.New("not percent-encoded")
	}
	return store.ParseID(strings.Clone(plain))
}

// PathSeq reads the number of what a list has from the path; what names it and its
// list, such as "dead letter" and "/v1/dead-letters".
func PathSeq(c *fiber.Ctx, what, list string) (int64, error) {
	seq, err := strconv.ParseInt(c.Params("seq"), 10, 64)
	if err != nil || seq < 1 {
		return 0, problem.New(fiber.StatusBadRequest, "The number of the "+what+" in the path must be a whole number from 1; GET "+list+" lists them.")
	}
	return seq, nil
}

// Clip keeps a stranger's text from filling an answer.
func Clip(s string) string {
	if len(s) > 64 {
		return strings.ToValidUTF8(s[:64], "") + "…"
	}
	return s
}
