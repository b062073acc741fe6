// Package webhook is a delivery's way in: authenticate, decode, batch, apply,
// answer. It also serves the API, the health checks and the metrics.
//
// The data flows one way. A handler takes a place in a bounded room, reads the
// body as a stream and hands the changes to a queue; a few workers take what
// has piled up there and commit it in one transaction (group commit); then the
// handler answers. Nothing is answered 200 before the commit, and nothing that
// is not authenticated reaches the store.
//
// A sender such as pg_net neither retries nor tells its user: it sends each
// change once, takes any answer for an answer, and follows a redirect as a GET
// without a body. So the receiver never redirects, prefers a pause in reading
// to a refusal, and keeps the beginning of what it can't read.
package webhook
