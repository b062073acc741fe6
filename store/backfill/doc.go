// Package backfill fills a mirror with runs that no webhook told it of.
//
// [Lines] reads them from a file, a JSON object a line, and [Table] from a live
// PostgreSQL database, page by page, while the application writes it. Both give a row
// to the mirror as one that was seen unchanged, which never outweighs a webhook that
// saw the run end: imports may be repeated, and may run beside webhooks.
//
// The package imports store and the backends. How a row is read is the caller's: it
// hands over a [RowReader], such as webhook.Decoder.
package backfill
