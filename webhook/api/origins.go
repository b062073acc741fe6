package api

import (
	"fmt"
	"net/url"
	"strings"

	"github.com/gofiber/fiber/v2"
	"github.com/gofiber/fiber/v2/middleware/cors"
)

// CheckOrigins says what is wrong with a list of web origins.
func CheckOrigins(origins []string) error {
	for _, origin := range origins {
		if origin == "*" {
			if len(origins) > 1 {
				return fmt.Errorf("\"*\" is all origins: leave out the others, or it")
			}
			continue
		}
		u, err := url.Parse(origin)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.Scheme+"://"+u.Host != origin {
			return fmt.Errorf("%q is not an origin: write scheme and host alone, such as https://app.example.com", origin)
		}
	}
	return nil
}

// allowOrigins lets pages of some origins ask for what a signed-in user may
// read, and nothing else. No cookie is meant: the token is all that counts.
func (a *API) allowOrigins(app fiber.Router) {
	if len(a.cfg.Origins) == 0 {
		return
	}
	allow := cors.New(cors.Config{
		AllowOrigins:  strings.ToLower(strings.Join(a.cfg.Origins, ",")),
		AllowMethods:  fiber.MethodGet,
		AllowHeaders:  fiber.HeaderAuthorization,
		ExposeHeaders: fiber.HeaderXRequestID + "," + fiber.HeaderRetryAfter,
		MaxAge:        600,
	})
	for _, e := range forUsers {
		for _, method := range [...]string{fiber.MethodGet, fiber.MethodHead, fiber.MethodOptions} {
			app.Add(method, "/v1"+e.route(), allow)
		}
	}
}
