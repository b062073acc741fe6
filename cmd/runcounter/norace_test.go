//go:build !race

package main

// raced: the race detector is on, with which everything takes longer.
const raced = false
