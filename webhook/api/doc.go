// Package api is the HTTP API below /v1: runs, counts, totals and dead letters, for
// programs with an API key and for signed-in users. It describes itself and the receiver
// of deliveries as OpenAPI 3.1.
//
// Its wire types ([Run], [Count], [Letter] and others) are exported: the command prints
// the same. It knows packages webhook, webhook/live, webhook/users and webhook/problem,
// and neither the server nor the console. Begin reading at [API.Routes].
package api
