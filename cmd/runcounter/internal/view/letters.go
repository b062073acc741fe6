package view

import (
	"bytes"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/webhook/api"
)

// Letters lists a page of dead letters, and says how to ask for the next.
func Letters(letters []store.DeadLetter, next *int64) string {
	if len(letters) == 0 {
		return "There are no such dead letters.\n"
	}
	rows := [][]string{{"NUMBER", "RECEIVED", "BYTES", "KEPT", "REASON"}}
	for _, d := range letters {
		rows = append(rows, []string{decimal(d.Seq), api.Instant(d.ReceivedAt).String(), decimal(d.Bytes), decimal(d.Kept), OneLine(d.Reason)})
	}
	var p page
	p.table(rows)
	if next != nil {
		p.print("\nThere are more: --before %d goes on.\n", *next)
	}
	return p.String()
}

// Letter prints a dead letter with its body, in base64 if it could control the terminal.
func Letter(d store.DeadLetter) string {
	l := api.LetterWithBodyOf(d, func(body []byte) bool {
		return utf8.Valid(body) && !bytes.ContainsFunc(body, func(r rune) bool { return unicode.IsControl(r) && !strings.ContainsRune("\t\r\n", r) })
	})
	kept := "all of them kept"
	if !d.Whole() {
		kept = fmt.Sprintf("the first %d kept", d.Kept)
	}
	return fmt.Sprintf("Dead letter %d, received at %s\nReason: %s\nBody:   %s, %s, as %s\n\n%s\n",
		d.Seq, api.Instant(d.ReceivedAt), OneLine(d.Reason), store.Quantity(d.Bytes, "byte", "bytes"), kept, l.Encoding, l.Body)
}

// Replayed says what became of dead letters that were taken in again.
func Replayed(all api.Replays) string {
	var p page
	for _, r := range all.Letters {
		switch {
		case r.Applied && r.Reason != "":
			p.print("%d  %s\n", r.Seq, r.Reason)
		case r.Applied:
			p.print("%d  applied and dropped: %s, %d changed, %d ignored\n", r.Seq, store.Quantity(int64(r.Received), "change", "changes"), r.Changed, r.Ignored)
		default:
			p.print("%d  stays: %s\n", r.Seq, OneLine(r.Reason))
		}
	}
	p.print("Replayed %s, %d stay.\n", store.Quantity(int64(all.Replayed), "dead letter", "dead letters"), all.Left)
	return p.String()
}
