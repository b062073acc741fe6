package store

import "fmt"

// Quantity returns a number with its noun: 1 run, 2 runs.
func Quantity(n int64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
