package main

import (
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/BurntSushi/toml"
)

// flyKeys are what Fly reads of a fly.toml, as far as ours use it; what it does
// not know it ignores, as it would a misspelt key. From Fly's reference of the
// file and from the structs that flyctl decodes it into.
var flyKeys = map[string][]string{
	"":                         {"app", "primary_region", "kill_signal", "kill_timeout", "build", "deploy", "env", "mounts", "http_service", "checks", "metrics", "restart", "vm"},
	"build":                    {"dockerfile", "build-target"},
	"deploy":                   {"release_command", "release_command_timeout", "strategy", "max_unavailable", "wait_timeout"},
	"mounts":                   {"source", "destination", "initial_size", "snapshot_retention", "auto_extend_size_threshold", "auto_extend_size_increment", "auto_extend_size_limit"},
	"http_service":             {"internal_port", "force_https", "auto_stop_machines", "auto_start_machines", "min_machines_running", "concurrency", "checks"},
	"http_service.concurrency": {"type", "soft_limit", "hard_limit"},
	"http_service.checks":      {"method", "path", "interval", "timeout", "grace_period", "protocol", "headers"},
	"checks":                   {"alive"},
	"checks.alive":             {"type", "port", "method", "path", "interval", "timeout", "grace_period", "protocol", "headers"},
	"metrics":                  {"port", "path"},
	"restart":                  {"policy", "retries"},
	"vm":                       {"size", "memory"},
}

// flyFile is what the tests read of one.
type flyFile struct {
	KillSignal  string `toml:"kill_signal"`
	KillTimeout int64  `toml:"kill_timeout"`
	Build       struct {
		Dockerfile string
		Target     string `toml:"build-target"`
	}
	Deploy struct {
		Release string `toml:"release_command"`
	}
	Env    map[string]string
	Mounts []struct{ Source, Destination string }
	HTTP   struct {
		Port   int    `toml:"internal_port"`
		HTTPS  bool   `toml:"force_https"`
		Stop   string `toml:"auto_stop_machines"`
		Start  bool   `toml:"auto_start_machines"`
		Least  int    `toml:"min_machines_running"`
		Limits struct {
			Soft int `toml:"soft_limit"`
			Hard int `toml:"hard_limit"`
		} `toml:"concurrency"`
		Checks []flyCheck
	} `toml:"http_service"`
	Checks  map[string]flyCheck
	Metrics struct {
		Port int
		Path string
	}
}

type flyCheck struct {
	Method, Path, Interval, Timeout, Type string
	Grace                                 string `toml:"grace_period"`
	Port                                  int
}

func TestFlyFiles(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"fly.toml", "fly.sqlite.toml"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var f flyFile
			meta, err := toml.DecodeFile(filepath.Join(top, name), &f)
			if err != nil {
				t.Fatal(err)
			}
			for _, key := range meta.Keys() {
				parent := strings.Join(key[:len(key)-1], ".")
				if parent != "env" && !has(flyKeys[parent], key[len(key)-1]) {
					t.Errorf("Fly knows no %s", key)
				}
			}
			mustServeOnFly(t, f)
			source := f.Build.Target == "runcounter"
			if migrates := f.Deploy.Release == "migrate up"; migrates != source {
				t.Errorf("release_command is %q: PostgreSQL is migrated before the deployment, SQLite by serve", f.Deploy.Release)
			}
			if source != (len(f.Mounts) == 0) {
				t.Errorf("got the mounts %v for the image %s", f.Mounts, f.Build.Target)
			}
			if !source && (f.Mounts[0].Destination != filepath.Dir(f.Env["DATABASE_FILE"]) || f.Env["DATABASE_URL"] != "sqlite:"+f.Env["DATABASE_FILE"]) {
				t.Errorf("the volume is at %s, the database at %v", f.Mounts[0].Destination, f.Env)
			}
			if !strings.Contains(mustReadFile(t, filepath.Join(top, f.Build.Dockerfile)), " AS "+f.Build.Target+"\n") {
				t.Errorf("%s has no stage %s", f.Build.Dockerfile, f.Build.Target)
			}
		})
	}
}

func has(list []string, name string) bool {
	for _, one := range list {
		if one == name {
			return true
		}
	}
	return false
}

// mustServeOnFly checks what has to fit serve, and asks serve with the file's
// environment for each path.
func mustServeOnFly(t *testing.T, f flyFile) {
	t.Helper()
	if got := time.Duration(f.KillTimeout) * time.Second; got <= finishIn || got > 5*time.Minute || f.KillSignal != "SIGTERM" && f.KillSignal != "SIGINT" {
		t.Errorf("%s and %s: want a signal that serve knows, more than %s, and at most Fly's 5m", f.KillSignal, got, finishIn)
	}
	if f.HTTP.Stop != "off" || f.HTTP.Start || f.HTTP.Least < 1 || !f.HTTP.HTTPS {
		t.Errorf("got %+v: the sweep must not sleep, and secrets must not travel in the clear", f.HTTP)
	}
	if f.HTTP.Limits.Hard < 2000 || f.HTTP.Limits.Hard > 2000+512 || f.HTTP.Limits.Soft >= f.HTTP.Limits.Hard {
		t.Errorf("got the limits %+v: serve has places for 2,000 streams and 512 deliveries", f.HTTP.Limits)
	}
	paths := map[string]int{f.Metrics.Path: f.Metrics.Port}
	for _, check := range append(f.HTTP.Checks, f.Checks["alive"]) {
		paths[check.Path] = max(check.Port, f.HTTP.Port)
		for _, text := range []string{check.Interval, check.Timeout, check.Grace} {
			if d, err := time.ParseDuration(text); err != nil || d <= 0 {
				t.Errorf("%s of the check of %s: %v", text, check.Path, err)
			}
		}
	}
	if len(paths) != 3 {
		t.Errorf("got the paths %v, want /readyz, /livez and /metrics", paths)
	}
	if f.Env["RUNCOUNTER_METRICS_LISTEN"] != fmt.Sprintf(":%d", f.Metrics.Port) || f.Metrics.Port == f.HTTP.Port {
		t.Errorf("serve has its metrics at %s, Fly asks port %d, want one that the world can't reach", f.Env["RUNCOUNTER_METRICS_LISTEN"], f.Metrics.Port)
	}
	if f.Env["RUNCOUNTER_CLIENT_HEADER"] != "Fly-Client-IP" {
		t.Errorf("the client is named by %q, want the header that Fly sets", f.Env["RUNCOUNTER_CLIENT_HEADER"])
	}
	env := []string{"RUNCOUNTER_WEBHOOK_SECRET=0123456789abcdef0123456789abcdef", "RUNCOUNTER_API_KEY=0123456789abcdef0123456789abcdef"}
	for name, value := range f.Env {
		if name == "RUNCOUNTER_LISTEN" {
			if value != ":8080" || f.HTTP.Port != 8080 {
				t.Errorf("listens on %s, Fly sends to %d", value, f.HTTP.Port)
			}
		} else if !strings.HasPrefix(name, "DATABASE_") && name != "RUNCOUNTER_METRICS_LISTEN" {
			env = append(env, name+"="+value)
		}
	}
	serve := command(t, t.TempDir(), append(env, "RUNCOUNTER_LISTEN=:0", "RUNCOUNTER_METRICS_LISTEN=:0"))
	serve.Args = append(serve.Args, "serve") // and nothing else: the rest is the environment's
	p := follow(t, serve)
	ports := map[int]string{}
	for at, message := range map[int]string{f.HTTP.Port: "listening", f.Metrics.Port: "metrics and readiness"} {
		line, ok := p.await(message)
		if !ok {
			t.Fatalf("serve ended before it listened\n%s", p.said())
		}
		_, ports[at], _ = strings.Cut(strings.TrimPrefix(line.URL, "http://"), ":")
	}
	for path, at := range paths {
		port := ports[at]
		if port == "" {
			t.Errorf("%s is asked on port %d, where serve does not listen", path, at)
		}
		for _, host := range []string{"127.0.0.1", "[::1]"} {
			if a := ask(t, http.MethodGet, "http://"+host+":"+port+path, ""); a.status != http.StatusOK {
				t.Errorf("GET %s on %s: got %+v, want 200", path, host, a)
			}
		}
	}
	p.kill()
}

// flyFlags are those of flyctl that the page's commands may use, as its reference lists
// them.
var flyFlags = map[string][]string{
	"apps create":     {},
	"secrets set":     {"--app", "--stage"},
	"volumes create":  {"--app", "--region", "--size", "--yes"},
	"deploy":          {"--app", "--config", "--primary-region", "--ha", "--image"},
	"checks list":     {"--app"},
	"scale count":     {"--app"},
	"ssh console":     {"-C"},
	"releases":        {"--image"},
	"storage create":  {},
	"logs":            {},
	"platform status": {},
}

// Each path's block is carried out whole, with a fly that only notes what it was asked
// for: the secrets and the volume are there before the deployment, which names its file
// and takes one machine.
func TestCaseO1_EachPathToFlyIsOneBlock(t *testing.T) {
	t.Parallel()
	page := mustReadFile(t, filepath.Join(top, "docs/deploy-on-fly.md"))
	for _, path := range []struct{ heading, file, want string }{
		{"Path 1: a source on Supabase", "fly.toml", "apps create, secrets set, deploy, checks list"},
		{"Path 2: a mirror with a volume", "fly.sqlite.toml", "apps create, secrets set, volumes create, deploy, checks list"},
	} {
		_, part, found := strings.Cut(page, "\n## "+path.heading+"\n")
		block := fenced.FindStringSubmatch(part)
		if !found || block == nil {
			t.Fatalf("the page has no block below %q", path.heading)
		}
		r := startShell(t, top, t.TempDir())
		out, _ := r.run("fly() { echo \"fly: $(printf '%s\\t' \"$@\")\"; }\n" + block[2])
		var did []string
		asked := map[string]string{}
		for line := range strings.Lines(out) {
			if words, is := strings.CutPrefix(strings.TrimSpace(line), "fly: "); is {
				command := flyCommand(t, strings.Split(words, "\t"))
				did, asked[command] = append(did, command), words+"\t"
			}
		}
		if got := strings.Join(did, ", "); got != path.want {
			t.Errorf("%s does %s, want %s\n%s", path.heading, got, path.want, out)
		}
		for _, want := range []string{"--config\t" + path.file + "\t", "--ha=false\t"} {
			if !strings.Contains(asked["deploy"], want) {
				t.Errorf("%s deploys without %q: %s", path.heading, want, asked["deploy"])
			}
		}
		mustBeSecrets(t, path.heading, asked["secrets set"])
		if !strings.Contains(out, "\nhttps://runcounter-") || strings.Count(out, "whsec_") < 2 {
			t.Errorf("%s doesn't print the address and the secrets, which Fly never shows again:\n%s", path.heading, out)
		}
	}
}

// flyCommand returns a command of fly without its arguments, and checks its flags.
func flyCommand(t *testing.T, words []string) string {
	t.Helper()
	command := words[0]
	if _, known := flyFlags[command]; !known && len(words) > 1 {
		command += " " + words[1]
	}
	flags, known := flyFlags[command]
	if !known {
		t.Errorf("fly has no command %q that this test knows", command)
	}
	for _, word := range words {
		if name, _, _ := strings.Cut(word, "="); strings.HasPrefix(word, "-") && !has(flags, name) {
			t.Errorf("fly %s has no flag %s that this test knows", command, name)
		}
	}
	return command
}

// mustBeSecrets checks that what a block sets are variables of serve, and that serve
// takes the secrets that it draws.
func mustBeSecrets(t *testing.T, path, words string) {
	t.Helper()
	var env []string
	for _, word := range strings.Split(words, "\t") {
		name, value, is := strings.Cut(word, "=")
		if !is {
			continue
		}
		if !strings.Contains(mustReadFile(t, referencePage), "`"+name+"`") {
			t.Errorf("%s sets %s, which no program reads", path, name)
		}
		if name != "DATABASE_URL" {
			env = append(env, name+"="+value)
		}
	}
	p := follow(t, command(t, t.TempDir(), append(env, "RUNCOUNTER_LISTEN=127.0.0.1:0", "RUNCOUNTER_LOG_FORMAT=json"), "serve"))
	if _, ok := p.await("listening"); !ok {
		t.Errorf("%s: serve doesn't start with its secrets\n%s", path, p.said())
	}
	p.kill()
}
