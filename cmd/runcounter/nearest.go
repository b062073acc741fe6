package main

import "strings"

// didYouMean asks for a name, if there is a near one.
func didYouMean(before, name string) string {
	if name == "" {
		return ""
	}
	return "Did you mean " + before + name + "? "
}

// nearest returns the name that was meant by what was written: the one that begins so, or
// the one that differs by the fewest letters, by a third of them at most. It is empty
// where none is near. The library's own suggests something for any word.
func nearest(written string, names []string) string {
	best, least := "", max(len(written)/3, 1)+1
	for _, name := range names {
		if len(written) > 2 && strings.HasPrefix(name, written) {
			return name
		}
		if d := distance(written, name); d < least {
			best, least = name, d
		}
	}
	return best
}

// distance is the number of letters to be added, dropped or replaced, or of neighbours
// to be swapped, which make one word of the other.
func distance(a, b string) int {
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			replaced := rows[i-1][j-1]
			if a[i-1] != b[j-1] {
				replaced++
			}
			rows[i][j] = min(replaced, rows[i-1][j]+1, rows[i][j-1]+1)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				rows[i][j] = min(rows[i][j], rows[i-2][j-2]+1)
			}
		}
	}
	return rows[len(a)][len(b)]
}
