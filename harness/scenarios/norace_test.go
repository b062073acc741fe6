//go:build !race

package scenarios

// raceDetector makes everything about ten times slower: a part is sampled.
const raceDetector = false
