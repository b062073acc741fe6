// Package toy is mutated by the tests of package mutants.
package toy

import (
	_ "embed"
	"strings"
)

//go:embed query.sql
var query string

// Smaller returns the smaller of two numbers. Inlined where a test calls it, it
// would be folded into a constant.
//
//go:noinline
func Smaller(a, b int) int {
	if a < b {
		return a
	}
	return b
}

// Sum adds the numbers below n.
func Sum(n int) int {
	sum := 0
	for i := 0; i < n; i++ {
		sum += i
	}
	return sum
}

// Line draws a line.
func Line(mark string, width int) string {
	return strings.Repeat(mark, width)
}

// Late is asked by package caller's tests alone.
//
//go:noinline
func Late(age int) bool {
	return age > 3
}

func uncalled(n int) int {
	return n - 1
}
