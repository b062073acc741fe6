package engine

import (
	"fmt"
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
