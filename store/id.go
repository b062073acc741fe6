package store

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// ID is an id as the watched table has it: the text of a UUID, of an integer,
// or any other of 1 to [MaxID] bytes. IDs are equal where their texts are, and
// nothing in this package asks of which type one is. The zero ID stands for
// SQL's null.
type ID struct{ text string }

// Absent stands for the user or the workflow of each run of a table that has no
// column for it. No run of another table has it: [ParseID] refuses its text. It
// is printed as "", and so the databases keep it, where no other key is empty.
var Absent = ID{"\x00"}

// MaxID is the length of the longest id, in bytes: a key of two of them stays
// far below what a row of an index may hold.
const MaxID = 255

// uuidForm is the text of a UUID, with x for a hexadecimal digit.
const uuidForm = "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx"

// ParseID returns the ID of a text, whose memory it keeps. The digits of a UUID
// become lower-case, so that people may write it in either case; any other text
// stands as it is. The error completes a sentence that begins
// with "the id is".
func ParseID(text string) (ID, error) {
	switch {
	case text == "":
		return ID{}, errors.New("empty")
	case len(text) > MaxID:
		return ID{}, fmt.Errorf("longer than %d bytes", MaxID)
	case !utf8.ValidString(text):
		return ID{}, errors.New("not valid UTF-8")
	case strings.IndexByte(text, 0) >= 0:
		return ID{}, errors.New("text with a NUL in it, which no database keeps")
	case likeUUID(text):
		text = strings.ToLower(text) // which is itself where nothing is to be done
	}
	return ID{text}, nil
}

// likeUUID reports whether a text has the shape of a UUID, in either case.
func likeUUID(text string) bool {
	if len(text) != len(uuidForm) {
		return false
	}
	for i := range len(text) {
		c := text[i]
		if uuidForm[i] == '-' && c != '-' {
			return false
		}
		if uuidForm[i] == 'x' && (c < '0' || c > '9') && (c|0x20 < 'a' || c|0x20 > 'f') {
			return false
		}
	}
	return true
}

// UUID returns the ID of a UUID, given as its bytes.
func UUID(b [16]byte) ID {
	var text [len(uuidForm)]byte
	hex.Encode(text[:8], b[:4])
	hex.Encode(text[9:13], b[4:6])
	hex.Encode(text[14:18], b[6:8])
	hex.Encode(text[19:23], b[8:10])
	hex.Encode(text[24:], b[10:])
	text[8], text[13], text[18], text[23] = '-', '-', '-', '-'
	return ID{string(text[:])}
}

// NewID draws a UUID of version 4.
func NewID() ID {
	var b [16]byte
	rand.Read(b[:]) // never fails: the runtime ends the program rather
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	return UUID(b)
}

// String returns the text of the ID, and "" for the zero ID and for [Absent].
func (id ID) String() string {
	if id == Absent {
		return ""
	}
	return id.text
}

// Shown returns the text for a person: in quotes where it holds what a terminal
// would not show as it is.
func (id ID) Shown() string {
	text := id.String()
	if quoted := strconv.Quote(text); quoted[1:len(quoted)-1] != text {
		return quoted
	}
	return text
}

// IsZero reports whether the ID stands for null.
func (id ID) IsZero() bool { return id == ID{} }

// Equal is ==, for those who look for a method.
func (id ID) Equal(o ID) bool { return id == o }

// Compare orders IDs by the bytes of their texts, as SQLite does, and PostgreSQL
// under the collation "C". The zero ID is before all others.
func (id ID) Compare(o ID) int { return strings.Compare(id.text, o.text) }

// MarshalJSON writes the text as a string, whatever the type of the column, and
// null for the zero ID and for [Absent].
func (id ID) MarshalJSON() ([]byte, error) {
	if id.IsZero() || id == Absent {
		return []byte("null"), nil
	}
	return json.Marshal(id.text)
}

// UnmarshalJSON reads a string, or an integer of any length, whose digits are
// kept as they are: 7 and "7" are the same ID.
func (id *ID) UnmarshalJSON(b []byte) (err error) {
	text := string(b)
	switch {
	case text == "null":
		*id = ID{}
		return nil
	case text != "" && text[0] == '"':
		if err := json.Unmarshal(b, &text); err != nil {
			return err
		}
	case !IsInteger(text):
		return errors.New("neither a string nor a whole number")
	}
	*id, err = ParseID(text)
	return err
}

// Scan reads a column of a mirror, null included: an empty text is [Absent].
func (id *ID) Scan(column any) (err error) {
	switch v := column.(type) {
	case nil:
		*id = ID{}
	case string:
		if *id = Absent; v != "" {
			*id, err = ParseID(v)
		}
	default:
		err = fmt.Errorf("of type %T and no text", v)
	}
	if err != nil {
		return fmt.Errorf("the id %q is %w", column, err)
	}
	return nil
}

// IsInteger reports whether a text is a number without fraction and exponent.
func IsInteger[T ~string | ~[]byte](text T) bool {
	digits := 0
	for i := range len(text) {
		switch c := text[i]; {
		case c >= '0' && c <= '9':
			digits++
		case i > 0 || c != '-' && c != '+':
			return false
		}
	}
	return digits > 0
}
