// Package caller uses package toy.
package caller

import "toy"

// Alarm says whether something is late.
func Alarm(age int) string {
	if toy.Late(age) {
		return "late"
	}
	return "in time"
}
