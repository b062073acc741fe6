package request

import (
	"errors"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"

	"github.com/edgaze-ai/runcounter/webhook/problem"
)

// Limits bound the time for a body.
type Limits struct {
	Stall time.Duration // without a byte of it
	Whole time.Duration // for all of it
}

// Body reads the body of one request, within its limits: so many bytes, so long
// without one, so long in all. It copies what it reads to the writers of Tee. Its
// errors are problems, and the first one stays.
type Body struct {
	ctx    *fasthttp.RequestCtx
	from   io.Reader
	length int64
	limit  int64
	read   int64
	tee    []io.Writer
	err    error

	stall    time.Duration
	until    time.Time // the end of the whole body
	deadline time.Time // the one that is set
}

// NewBody returns the body of a request, of at most limit bytes, of which nothing
// has been read yet.
func NewBody(c *fiber.Ctx, limit int64, l Limits) (*Body, error) {
	b := &Body{
		ctx: c.Context(), from: c.Context().RequestBodyStream(), limit: limit,
		length: int64(c.Request().Header.ContentLength()), stall: l.Stall,
	}
	if b.from == nil {
		b.from, b.length = strings.NewReader(""), 0
	}
	if b.length > limit {
		return nil, tooLarge(limit)
	}
	// A socket's deadline is a matter of the machine's own clock.
	b.until = time.Now().Add(l.Whole)
	return b, nil
}

// Length returns the length that the request declares, in bytes; negative where
// it declares none.
func (b *Body) Length() int64 { return b.length }

// BytesRead returns the number of bytes that were read.
func (b *Body) BytesRead() int64 { return b.read }

// Tee copies what is read from now on to w, too.
func (b *Body) Tee(w io.Writer) { b.tee = append(b.tee, w) }

// Hurry shortens the time for the whole body.
func (b *Body) Hurry(whole time.Duration) {
	if until := time.Now().Add(whole); until.Before(b.until) {
		b.until = until
	}
}

// Read implements io.Reader.
func (b *Body) Read(p []byte) (int, error) {
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
	for _, w := range b.tee {
		if _, err := w.Write(p[:n]); err != nil {
			b.err = err
		}
	}
	return n, b.err
}

// extend moves the deadline of the connection, though not for every few
// bytes: that costs more than reading them.
func (b *Body) extend() error {
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

// Drain reads the rest.
func (b *Body) Drain() error {
	_, err := io.Copy(io.Discard, b)
	return err
}

// cut translates the error of a connection that ended, or stood still, before
// the body was complete.
func cut(err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return problem.New(fiber.StatusRequestTimeout, "The body arrived too slowly and was cut off; nothing of it was used. Send it again.").Because(err)
	}
	return problem.New(fiber.StatusBadRequest, "The body ended too early or its framing is broken; nothing of it was used. "+
		"Send all the bytes that Content-Length announces, or well-formed chunks.").Because(err)
}

func tooLarge(limit int64) error {
	return problem.New(fiber.StatusRequestEntityTooLarge, "The body is larger than "+megabytes(limit)+". Send fewer changes at once, or leave the large columns out.")
}

// megabytes prints a number of bytes for a person.
func megabytes(n int64) string {
	if n < 1<<20 {
		return strconv.FormatInt(n, 10) + " bytes"
	}
	return strconv.FormatInt(n>>20, 10) + " MB"
}
