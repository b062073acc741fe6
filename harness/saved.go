package harness

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// followSaved runs the schedule of the command line, or those that failed
// before, and reports whether one of them fails. One that the code can't follow
// fails the test, since a regression test that tests nothing should not pass.
func (x *explorer) followSaved(result *Result) bool {
	x.t.Helper()
	saved := x.saved()
	if *flagReplay != "" {
		saved = map[string]string{"the command line": *flagReplay}
	}
	for _, from := range slices.Sorted(maps.Keys(saved)) {
		follow, err := parseReplay(saved[from])
		if err != nil {
			x.t.Fatalf("%s: %v", from, err)
		}
		run := x.followOne(follow)
		switch {
		case run.failure != nil:
			result.Failure, result.Found = run.failure, from
			result.Report = x.report(result, run)
			return true
		case run.diverged != "" && *flagReplay != "":
			x.t.Fatalf("the schedule of %s doesn't fit: %s", from, run.diverged)
		case run.diverged != "":
			x.t.Errorf("the schedule of %s does not fit the code any more: %s. Delete the file if the code has changed on purpose, and let the search look for what it was about; otherwise mend the scenario",
				from, run.diverged)
		default:
			x.t.Logf("the schedule of %s passes%s%s", from, follow.unused(), butFor(x.notExplored()))
		}
	}
	return false
}

// followOne runs a schedule, and on a real server again where it went
// another way: which of two statements goes first that one COMMIT lets go on is
// the server's choice.
func (x *explorer) followOne(follow *replay) (run *execution) {
	x.attentive.Store(follow.attentive)
	for range 4 * divergences {
		follow.rewind()
		if run = x.execute(follow, omissions{}, false); run.diverged == "" || !x.live() {
			break
		}
	}
	if run.restart {
		run.diverged = "an actor waits for more than the database, and did not when the schedule was kept"
	}
	return run
}

// unused says how much of a schedule was left when all actors had returned.
func (r *replay) unused() string {
	all := 0
	for _, d := range r.steps {
		if d.letter != "-" {
			all++
		}
	}
	if r.taken >= all {
		return ""
	}
	return fmt.Sprintf(": all actors have returned after %d of its %s", r.taken, plural(all, "step"))
}

// saved returns the schedules that failed before, by their files.
func (x *explorer) saved() map[string]string {
	found := map[string]string{}
	files, _ := filepath.Glob(filepath.Join("testdata", "schedules", fileName(x.t.Name())+"-*.schedule"))
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			x.t.Fatalf("read a saved schedule: %v", err)
		}
		found[file] = string(text)
	}
	return found
}

// save keeps a failing schedule: the schedule in its first line, who its
// letters are in the second, what it was about below.
func (x *explorer) save(r *Report) string {
	dir := filepath.Join("testdata", "schedules")
	name := filepath.Join(dir, fmt.Sprintf("%s-%04x.schedule", fileName(x.t.Name()), hash(r.Schedule.String()+r.without)&0xffff))
	text := fmt.Sprintf("%s%s\n%s\n\n%s", r.Schedule, r.without, r.cast, r)
	if err := os.MkdirAll(dir, 0o750); err != nil {
		x.t.Logf("keep the schedule: %v", err)
		return ""
	}
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		x.t.Logf("keep the schedule: %v", err)
		return ""
	}
	return name
}

func hash(text string) uint64 {
	h := uint64(14695981039346656037) // FNV-1a
	for _, b := range []byte(text) {
		h = (h ^ uint64(b)) * 1099511628211
	}
	return h
}

func fileName(test string) string {
	return strings.Map(func(r rune) rune {
		if r == '/' || r == '\\' || r == ' ' {
			return '_'
		}
		return r
	}, test)
}

// A member is an actor as a schedule that is kept knows it: its letter there,
// and its name. Letters are given anew in every scenario.
type member struct{ letter, name string }

const castBegins = "actors: "

// cast is the actors of a run, in a line: f "first", s "second".
func (r *execution) cast() string {
	parts := make([]string, len(r.sim.actors))
	for i, a := range r.sim.actors {
		parts[i] = a.letter + " " + strconv.Quote(a.name)
	}
	return castBegins + strings.Join(parts, ", ")
}

// parseCast reads what [execution.cast] wrote.
func parseCast(line string) (cast []member, err error) {
	rest := strings.TrimSpace(strings.TrimPrefix(line, castBegins))
	for rest != "" {
		letter, after, _ := strings.Cut(rest, " ")
		quoted, err := strconv.QuotedPrefix(after)
		if err != nil || letter == "" {
			return nil, fmt.Errorf(`its second line names actors like this: %sf "first", s "second"; not like this: %s`, castBegins, rest)
		}
		name, err := strconv.Unquote(quoted)
		if err != nil {
			return nil, err
		}
		cast = append(cast, member{letter, name})
		rest = strings.TrimPrefix(after[len(quoted):], ", ")
	}
	return cast, nil
}

// begin gives the actors of this run the letters that the schedule has for
// them, by their names. Of several of one name the first in the schedule is the
// first of the scenario. A schedule without names means letters as they are.
func (r *replay) begin(run *execution) {
	r.letters = nil
	if r.cast != nil {
		r.letters = map[string]string{run.x.clock.letter: run.x.clock.letter}
	}
	taken := actorSet(0)
	for _, m := range r.cast {
		for _, a := range run.sim.actors {
			if a.name == m.name && !taken.has(a.id) {
				taken = taken.with(a.id)
				r.letters[m.letter] = a.letter
				break
			}
		}
	}
	for _, d := range r.steps {
		if d.letter != "-" && r.letter(d.letter) == "" && !r.loose {
			run.diverged = fmt.Sprintf("it has steps of %s, and there is no such actor", r.name(d.letter))
			return
		}
	}
	run.leaveOut(r)
}

// letter returns the letter that an actor of the schedule has in this run, or
// "" where it isn't there.
func (r *replay) letter(of string) string {
	if r.letters == nil {
		return of
	}
	return r.letters[of]
}

// name is what the schedule calls an actor.
func (r *replay) name(letter string) string {
	for _, m := range r.cast {
		if m.letter == letter {
			return strconv.Quote(m.name)
		}
	}
	return letter
}
