package migrations

import (
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Objects are what the migrations make in a PostgreSQL database, by name, in
// the order in which they make it.
type Objects struct {
	Tables    []string // in schema run_counter
	Functions []string // with their schema
	Triggers  []Trigger
	Indexes   []string // on public.workflow_runs
}

// Trigger is one that the migrations make.
type Trigger struct{ Table, Name string }

var (
	tableMade    = regexp.MustCompile(`(?m)^create table if not exists run_counter\.(\w+)`)
	functionMade = regexp.MustCompile(`(?m)^create or replace function ((?:run_counter|public)\.\w+)\(`)
	triggerMade  = regexp.MustCompile(`(?m)^create or replace trigger (\w+)\s+(?:before|after) [a-z ]+ on (\w+\.\w+)`)
)

// PostgresObjects reads the names from the migrations, so that a look
// for them in a database is for what this program would make. draft is for
// a workflow_runs that has draft_id.
func PostgresObjects(draft bool) (o Objects, err error) {
	names, err := fs.Glob(files, "postgres/*.up.sql")
	if err != nil {
		return o, err
	}
	for _, name := range names {
		text, err := files.ReadFile(name)
		if err != nil {
			return o, err
		}
		for _, found := range tableMade.FindAllSubmatch(text, -1) {
			o.Tables = append(o.Tables, string(found[1]))
		}
		for _, found := range functionMade.FindAllSubmatch(text, -1) {
			o.Functions = append(o.Functions, string(found[1]))
		}
		for _, found := range triggerMade.FindAllSubmatch(text, -1) {
			o.Triggers = append(o.Triggers, Trigger{Table: string(found[2]), Name: string(found[1])})
		}
	}
	all, err := indexes(draft)
	if err != nil {
		return o, err
	}
	for _, i := range all {
		o.Indexes = append(o.Indexes, i.name)
	}
	o.Functions = slices.Compact(o.Functions)
	return o, nil
}

// LatestSQLite returns the version that this program brings a SQLite file to.
func LatestSQLite() (uint, error) { return latestOf("sqlite") }

// LatestPostgres returns the version that this program brings a PostgreSQL
// database to.
func LatestPostgres() (uint, error) { return latestOf("postgres") }

func latestOf(kind string) (latest uint, err error) {
	names, err := fs.Glob(files, kind+"/*.up.sql")
	if err != nil {
		return 0, err
	}
	for _, name := range names {
		number, _, _ := strings.Cut(strings.TrimPrefix(name, kind+"/"), "_")
		n, err := strconv.ParseUint(number, 10, 0)
		if err != nil {
			return 0, fmt.Errorf("the version of migration %s: %w", name, err)
		}
		latest = max(latest, uint(n))
	}
	return latest, nil
}
