// Package version says which build of Run Counter a program is.
package version

import (
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
)

// A release sets these by the linker; the build information of Go has the revision
// only where the program was built in a clone of the repository, and neither in an
// image's build, which has no .git:
//
//	go build -ldflags "-X github.com/edgaze-ai/runcounter/internal/version.version=v1.2.3 -X github.com/edgaze-ai/runcounter/internal/version.revision=0123abc"
var version, revision string

// unknown stands for a version or revision that was not recorded.
const unknown = "unknown"

// Build describes a build. Its fields are never empty.
type Build struct {
	Version  string `json:"version"`  // such as v1.2.3
	Revision string `json:"revision"` // the commit, with +dirty behind it where files differed from it
	Go       string `json:"go"`       // the version of Go that compiled it
}

// String is the build in one line.
func (b Build) String() string {
	return b.Version + " (" + b.short() + ", " + b.Go + ")"
}

// short is the revision as people write it, of twelve digits.
func (b Build) short() string {
	commit, dirty, is := strings.Cut(b.Revision, "+")
	if len(commit) > 12 {
		commit = commit[:12]
	}
	if is {
		return commit + "+" + dirty
	}
	return commit
}

// UserAgent names the program to the servers that it calls.
func (b Build) UserAgent() string { return "runcounter/" + b.Version }

// This returns the running program's build.
var This = sync.OnceValue(func() Build {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		info = &debug.BuildInfo{}
	}
	return of(version, revision, info)
})

// of describes a build by what its linker was told, and where that is nothing by what
// Go has recorded.
func of(version, revision string, info *debug.BuildInfo) Build {
	b := Build{Version: version, Revision: revision, Go: runtime.Version()}
	if b.Version == "" {
		b.Version = strings.Trim(info.Main.Version, "()") // (devel) in a clone without a tag
	}
	if b.Version == "" {
		b.Version = unknown
	}
	if b.Revision != "" {
		return b
	}
	settings := map[string]string{}
	for _, s := range info.Settings {
		settings[s.Key] = s.Value
	}
	if b.Revision = settings["vcs.revision"]; b.Revision == "" {
		b.Revision = unknown
	} else if settings["vcs.modified"] == "true" {
		b.Revision += "+dirty"
	}
	return b
}
