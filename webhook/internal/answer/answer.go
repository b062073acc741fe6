// Package answer writes what handlers answer: JSON, and the id of the request.
// It imports Fiber alone.
package answer

import (
	"bytes"
	"encoding/json"

	"github.com/gofiber/fiber/v2"
)

// Encode returns v as JSON, without escapes for HTML. It panics where v can't be
// encoded: answers are made of our own types, and a run's JSON was valid when it
// was stored.
func Encode(v any) []byte {
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		panic(err)
	}
	return bytes.TrimSuffix(out.Bytes(), []byte("\n"))
}

// JSON answers with v.
func JSON(c *fiber.Ctx, status int, v any) error {
	c.Response().SetStatusCode(status)
	c.Response().Header.SetContentType(fiber.MIMEApplicationJSON)
	c.Response().SetBodyRaw(Encode(v))
	return nil
}

// RequestID returns the id that a request was given; empty where it did not get
// that far.
func RequestID(c *fiber.Ctx) string {
	return string(c.Response().Header.Peek(fiber.HeaderXRequestID))
}
