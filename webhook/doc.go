// Package webhook is a delivery's way in: authenticate, decode, queue, apply, answer;
// and the dead letters of what can't be read.
//
// The data flows one way. [Receiver.Receive] takes a slot, reads the body as a stream
// and hands the changes to a queue; a few workers take what has piled up there and
// commit it in one transaction (group commit); then the handler answers. Nothing is
// answered 200 before the commit, and nothing that is not authenticated reaches the
// store. The store that a receiver is handed tries again what failed for a moment, so
// that a delivery's way never turns back.
//
// A sender such as pg_net neither retries nor tells its user: it sends each
// change once, takes any answer for an answer, and follows a redirect as a GET
// without a body. So the receiver never redirects, prefers a pause in reading
// to a refusal, and keeps the beginning of what it can't read.
//
// It may import store, webhook/problem and webhook/internal. The API, live counts and
// the console import it, and webhook/server puts them all together. Begin reading at
// [Receiver.Receive]; a body's way through the decoder begins at [Decoder.Decode].
package webhook
