package postgres

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// serverSide is what the server has said on a wire, and what it still owes.
type serverSide struct {
	back       []byte // received, and no whole message yet
	out        []byte // for the client
	seen       int    // how often something came
	ready      bool   // the session has begun
	pid        uint32
	status     byte // of the transaction: I, T or E
	implicit   bool // statements were executed since, and no Sync came
	parameters map[string]string
	expected   []byte              // the kinds of messages that it owes an answer for
	described  []string            // the statements whose parameters it will tell
	told       map[string][]uint32 // the types of the parameters of those
	ours       []string            // settings that it is asked for before the client hears that it is ready
	skipping   bool                // an error: it reads nothing but a Sync
	copying    bool                // it waits for data
	cancels    bool                // it is a request to cancel another, to which nothing is answered
	settling   int                 // answers to our own settings, of which the client knows nothing
	asked      int                 // answers to our own Syncs
	own        bool                // it answers to a query of our own
	reset      bool                // the client has reset what is set
	divider    bool                // the session has the table for them, see [divide]
	dividers   []int
	due        int  // how many of them are to come
	dividing   bool // it stands at one
	reply      []byte
	granted    []string // of our settings

	done   int // how many statements have ended since this was set to 0
	tag    string
	code   string // of an error
	looked func(waits bool)
	stray  string    // what it said unasked
	stands *standing // the gate in a function at which it does
}

// expectAnswer notes what the server will say to a message.
func (b *serverSide) expectAnswer(m message) {
	switch m.kind {
	case 'P', 'B', 'C', 'E', 'D':
		if b.skipping {
			return
		}
		if m.kind == 'D' && len(m.raw) > 5 && m.raw[5] == 'S' {
			b.described = append(b.described, cString(m.raw[6:]))
		}
	case 'S', 'Q', 'F':
	default:
		return
	}
	b.expected = append(b.expected, m.kind)
}

func cString(b []byte) string {
	if i := bytes.IndexByte(b, 0); i >= 0 {
		b = b[:i]
	}
	return string(b)
}

// answered takes what came from the server.
func (b *serverSide) answered(data []byte) {
	if len(data) == 0 {
		return
	}
	b.seen++
	b.back = append(b.back, data...)
	rest := b.back
	for len(rest) >= 5 {
		size := 1 + int(binary.BigEndian.Uint32(rest[1:]))
		if len(rest) < size {
			break
		}
		if b.says(rest[0], rest[5:size]) {
			b.out = append(b.out, rest[:size]...)
		}
		rest = rest[size:]
	}
	b.back = b.back[:copy(b.back, rest)]
}

// says takes a message of the server, and reports whether it is the client's.
func (b *serverSide) says(kind byte, body []byte) bool {
	switch kind {
	case 'N':
		return b.notices(body)
	case 'S':
		if name, value, ok := strings.Cut(strings.TrimSuffix(string(body), "\x00"), "\x00"); ok {
			b.parameters[name] = value
		}
		return true
	case 'A':
		return true
	case 'K':
		b.pid = binary.BigEndian.Uint32(body)
		return true
	}
	if !b.ready {
		return b.begins(kind, body)
	}
	if b.saysOfDividers(kind, body) {
		return false
	}
	own := b.own
	switch kind {
	case '1':
		b.pop('P')
	case '2':
		b.pop('B')
	case '3':
		b.pop('C')
	case 't':
		b.tellsParameters(body)
	case 'T', 'n':
		if b.head() == 'D' {
			b.pop('D')
		}
	case 'C', 'I', 's':
		if kind != 'I' {
			b.done++
		}
		if kind == 'C' {
			b.tag = cString(body)
			b.reset = b.reset || !b.own && (b.tag == "RESET" || b.tag == "DISCARD ALL")
			b.divider = b.divider && !strings.HasPrefix(b.tag, "DISCARD")
		}
		if b.head() == 'E' {
			b.pop('E')
		} else if b.head() != 'Q' {
			b.stray = "an answer to no statement: " + b.tag
		}
	case 'V':
		b.done++
	case 'G', 'W':
		b.copying = true
		if b.head() == 'E' { // it takes no Sync until the data are whole
			b.expected = bytes.TrimRight(b.expected, "S")
		}
	case 'E':
		b.fails(body)
	case 'Z':
		b.own = false
		return b.isIdle(body) && !own
	}
	return !own
}

func (b *serverSide) head() byte {
	if len(b.expected) == 0 {
		return 0
	}
	return b.expected[0]
}

func (b *serverSide) pop(kind byte) {
	if b.head() != kind {
		b.stray = fmt.Sprintf("an answer to a message of the kind %c, and one to %c is due", kind, b.head())
		return
	}
	b.expected = b.expected[1:]
}

func (b *serverSide) fails(body []byte) {
	var e pgproto3.ErrorResponse
	if err := e.Decode(body); err == nil {
		b.code = e.Code
	}
	b.copying = false
	switch b.head() {
	case 'Q', 'F':
		return // it will be ready
	}
	b.described = nil
	if i := bytes.IndexByte(b.expected, 'S'); i >= 0 {
		b.expected = b.expected[i:]
		return
	}
	b.expected, b.skipping = nil, true
}

// isIdle is the end of an answer.
func (b *serverSide) isIdle(body []byte) bool {
	b.status = body[0]
	switch b.head() {
	case 'S', 'Q', 'F':
		b.expected = b.expected[1:]
	default:
		b.stray = "that it is ready, unasked"
	}
	b.skipping, b.implicit, b.copying = false, false, false
	if b.asked > 0 {
		b.asked--
		return false
	}
	return true
}

// begins takes the messages of a session's beginning. Before the client hears
// that it is ready, we make our settings.
func (b *serverSide) begins(kind byte, body []byte) bool {
	if b.settling == 0 && kind == 'Z' {
		for _, text := range b.ours {
			raw, err := (&pgproto3.Query{String: text}).Encode(nil)
			if err != nil {
				panic(err)
			}
			b.reply = append(b.reply, raw...)
			b.settling++
		}
		return false
	}
	if b.settling == 0 {
		return true
	}
	switch kind {
	case 'C':
		b.granted = append(b.granted, b.ours[len(b.ours)-b.settling])
	case 'Z':
		if b.settling--; b.settling == 0 {
			b.ready, b.status = true, body[0]
			return true
		}
	}
	return false
}

// notices takes a notice, and reports whether it is the client's: what only a
// log has otherwise is ours.
func (b *serverSide) notices(body []byte) bool {
	var n pgproto3.NoticeResponse
	if err := n.Decode(body); err != nil {
		return true
	}
	if at, ok := gateSays(&pgconn.Notice{SeverityUnlocalized: n.SeverityUnlocalized, Routine: n.Routine, Message: n.Message}); ok {
		b.stands = &at
		return false
	}
	if n.SeverityUnlocalized != "LOG" {
		return b.settling == 0 && !b.own
	}
	notice := &pgconn.Notice{SeverityUnlocalized: n.SeverityUnlocalized, Routine: n.Routine, Message: n.Message}
	if waits, said := lockWord(notice); said && b.looked != nil && !isGate(notice) {
		b.looked(waits)
	}
	return false
}

// tellsParameters takes the types of a statement's parameters.
func (b *serverSide) tellsParameters(body []byte) {
	var d pgproto3.ParameterDescription
	if err := d.Decode(body); err == nil && len(b.described) > 0 {
		b.told[b.described[0]] = d.ParameterOIDs
		b.described = b.described[1:]
	}
}

// ours are the settings of each session: that it looks for deadlocks soon, and
// says so in a notice, in English. Two of them are a superuser's.
func ours(client map[string]string) []string {
	list := []string{"set client_min_messages = log", logWaits}
	if client["deadlock_timeout"] == "" {
		list = append(list, lookSoon)
	}
	return list
}

const (
	logWaits = "set lc_messages = 'C'; set log_lock_waits = on"
	lookSoon = "set deadlock_timeout = '1ms'"
)

// patience is how long it is waited for the word that a session has looked for a
// deadlock. A statement may have switched such messages off, and a role that is
// no superuser can't switch them on: it looks after deadlock_timeout, which is a
// second.
func (b *serverSide) patience() time.Duration {
	if !slices.Contains(b.granted, logWaits) && slices.Contains(b.granted, lookSoon) {
		return 50 * time.Millisecond
	}
	return lookPatience + 200*time.Millisecond
}
