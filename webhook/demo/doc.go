// Package demo makes the world of runcounter demo: runs whose deliveries come twice, out
// of order or never, the truth about them, and the counters that people write first,
// which get it wrong. It knows webhook/api, whose deliveries it writes, and no backend
// of ours. Begin reading at [NewWorld].
package demo
