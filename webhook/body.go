package webhook

import (
	"errors"
	"io"
	"os"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"
)

// body reads the body of one request, within its limits: so many bytes, so
// long without one, so long in all. What it reads it also writes to a
// signature and to an excerpt, if there are any. Its errors are
// problems, and the first one stays.
type body struct {
	ctx    *fasthttp.RequestCtx
	from   io.Reader
	length int64 // as declared; negative where it was not
	limit  int64
	read   int64
	also   io.Writer // may be nil
	prefix *excerpt  // may be nil
	err    error

	stall    time.Duration
	until    time.Time // the end of the whole body
	deadline time.Time // the one that is set
}

// newBody returns the body of a request, of which nothing has been read yet.
func newBody(c *fiber.Ctx, limit int64, l limits) (*body, error) {
	b := &body{
		ctx: c.Context(), from: c.Context().RequestBodyStream(), limit: limit,
		length: int64(c.Request().Header.ContentLength()), stall: l.stall,
	}
	if b.from == nil {
		b.from, b.length = strings.NewReader(""), 0
	}
	if b.length > limit {
		return nil, tooLarge(limit)
	}
	// A socket's deadline is a matter of the machine's own clock.
	b.until = time.Now().Add(l.whole)
	return b, nil
}

// hurry shortens the time for the whole body.
func (b *body) hurry(whole time.Duration) {
	if until := time.Now().Add(whole); until.Before(b.until) {
		b.until = until
	}
}

// Read implements io.Reader.
func (b *body) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	if err := b.extend(); err != nil {
		b.err = cut(err)
		return 0, b.err
	}
	n, err := b.from.Read(p)
	b.read += int64(n)
	switch {
	case b.read > b.limit:
		b.err = tooLarge(b.limit)
		return 0, b.err
	// The HTTP server reports a connection that was closed in the middle of a
	// body of known length as that body's end.
	case err == io.EOF && b.length >= 0 && b.read < b.length:
		b.err = cut(io.ErrUnexpectedEOF)
	case err != nil && err != io.EOF:
		b.err = cut(err)
	default:
		b.err = err
	}
	if b.also != nil {
		if _, err := b.also.Write(p[:n]); err != nil {
			b.err = err
		}
	}
	if b.prefix != nil {
		b.prefix.add(p[:n])
	}
	return n, b.err
}

// extend moves the deadline of the connection, though not for every few
// bytes: that costs more than reading them.
func (b *body) extend() error {
	now := time.Now()
	if b.deadline.Sub(now) > b.stall-b.stall/8 || b.deadline.Equal(b.until) {
		return nil
	}
	b.deadline = now.Add(b.stall)
	if b.deadline.After(b.until) {
		b.deadline = b.until
	}
	return b.ctx.SetReadDeadline(b.deadline)
}

// drain reads the rest.
func (b *body) drain() error {
	_, err := io.Copy(io.Discard, b)
	return err
}

// cut translates the error of a connection that ended, or stood still, before
// the body was complete.
func cut(err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return newProblem(fiber.StatusRequestTimeout, "The body arrived too slowly and was cut off; nothing of it was used. Send it again.").because(err)
	}
	return newProblem(fiber.StatusBadRequest, "The body ended too early or its framing is broken; nothing of it was used. "+
		"Send all the bytes that Content-Length announces, or well-formed chunks.").because(err)
}

func tooLarge(limit int64) error {
	return newProblem(fiber.StatusRequestEntityTooLarge, "The body is larger than "+megabytes(limit)+". Send fewer changes at once, or leave the large columns out.")
}
