package engine

import (
	"bytes"
	"fmt"
	"runtime"
	"strconv"
	"strings"
)

// Clip is a text in one line of at most so many characters.
func Clip(text string, width int) string {
	text = strings.Join(strings.Fields(text), " ")
	if runes := []rune(text); len(runes) > width {
		return string(runes[:width-1]) + "…"
	}
	return text
}

// Show is a value as reports show it.
func Show(v any) string {
	switch v := v.(type) {
	case nil:
		return "null"
	case []byte:
		return Clip(string(v), 40)
	case string:
		return Clip(v, 40)
	}
	return fmt.Sprint(v)
}

// Goroutine is the number by which the runtime's stacks call the caller. It
// costs some 5 µs, and more on a deep stack.
func Goroutine() uint64 {
	var text [40]byte
	fields := bytes.Fields(text[:runtime.Stack(text[:], false)])
	id, err := strconv.ParseUint(string(fields[1]), 10, 64)
	if err != nil {
		panic("harness: the runtime's stacks have changed: " + string(text[:]))
	}
	return id
}
