// Command says prints its build.
package main

import (
	"os"

	"github.com/edgaze-ai/runcounter/internal/version"
)

func main() { os.Stdout.WriteString(version.This().String()) }
