//go:build race

package webhook

const raced = true
