package server

import (
	"crypto/sha256"
	"encoding/base64"
	"strings"
	"sync"

	"github.com/gofiber/fiber/v2"

	"github.com/edgaze-ai/runcounter/webhook/api"
)

// openAPI answers with the description of the API, to anybody: it is the same on each
// server, and says nothing of this one.
func openAPI(c *fiber.Ctx) error {
	c.Set(fiber.HeaderCacheControl, "public, max-age=300")
	c.Set(fiber.HeaderETag, openAPITag())
	for tag := range strings.SplitSeq(c.Get(fiber.HeaderIfNoneMatch), ",") {
		if tag = strings.TrimPrefix(strings.TrimSpace(tag), "W/"); tag == openAPITag() || tag == "*" {
			c.Status(fiber.StatusNotModified)
			return nil
		}
	}
	c.Set(fiber.HeaderContentType, fiber.MIMEApplicationJSON)
	c.Response().SetBodyRaw(api.OpenAPI())
	return nil
}

// openAPITag is the entity tag of the description.
var openAPITag = sync.OnceValue(func() string {
	sum := sha256.Sum256(api.OpenAPI())
	return `"` + base64.RawURLEncoding.EncodeToString(sum[:12]) + `"`
})
