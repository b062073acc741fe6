package mutants

import (
	"fmt"
	"strings"
)

// Accepted are survivors that are let be, by Key, with the reason.
type Accepted map[string]string

// ParseAccepted reads a list of survivors: a line with the Key of each, and behind it
// indented lines with the reason. Lines that begin with # are comments.
func ParseAccepted(text string) (Accepted, error) {
	accepted := Accepted{}
	key := ""
	for n, line := range strings.Split(text, "\n") {
		switch {
		case strings.TrimSpace(line) == "", strings.HasPrefix(line, "#"):
		case line[0] == ' ', line[0] == '\t':
			if key == "" {
				return nil, fmt.Errorf("line %d: a reason without a survivor before it", n+1)
			}
			accepted[key] = strings.TrimSpace(accepted[key] + " " + strings.TrimSpace(line))
		default:
			if key != "" && accepted[key] == "" {
				return nil, fmt.Errorf("line %d: the survivor before it has no reason", n+1)
			}
			key = strings.TrimSpace(line)
			if _, twice := accepted[key]; twice {
				return nil, fmt.Errorf("line %d: it is listed twice", n+1)
			}
			accepted[key] = ""
		}
	}
	if key != "" && accepted[key] == "" {
		return nil, fmt.Errorf("the last survivor has no reason")
	}
	return accepted, nil
}
