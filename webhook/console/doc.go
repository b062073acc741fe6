// Package console is the pages at / for people: overview, counts, runs, dead letters,
// repairs, doctor, and the actions that an operator confirms.
//
// It knows packages webhook, webhook/live, webhook/users, webhook/problem and
// store/doctor/report, and neither the API nor the server, which hands it what it shows. Begin
// reading at [Console.Routes]; the templates are in pages.
package console
