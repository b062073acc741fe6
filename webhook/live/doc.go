// Package live tells browsers of counts as they change, by server-sent events. It knows
// package webhook, whose answers its events resemble, webhook/problem and webhook/users,
// and neither the API nor the console, which open streams. Begin reading at
// [Streams.Counts]; the hub reads the counts that are watched, and seats shares the
// places fairly among users.
package live
