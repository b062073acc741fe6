package migrations

import (
	"regexp"
	"slices"

	"github.com/edgaze-ai/runcounter/store/watched"
)

// Objects lists the names of the objects that the migrations make in a PostgreSQL
// database, in the order in which they make them.
type Objects struct {
	Tables    []string // in schema run_counter
	Functions []string // with their schema
	Triggers  []Trigger
	Indexes   []string // on the watched table
}

// Trigger names a trigger that the migrations make, and its table as schema.name.
type Trigger struct{ Table, Name string }

var (
	tableMade    = regexp.MustCompile(`(?m)^create table if not exists run_counter\.(\w+)`)
	functionMade = regexp.MustCompile(`(?m)^create or replace function ((?:run_counter|public)\.\w+)\(`)
	triggerMade  = regexp.MustCompile(`(?m)^create or replace trigger (\w+)\s+(?:before|after) [a-z ]+ on ((?:\w+|"(?:[^"]|"")+")\.(?:\w+|"(?:[^"]|"")+"))`)
)

// PostgresObjects reads the names from the migrations as they are rendered for a
// table, so that a look for them in a database is for what this program would
// make.
func PostgresObjects(t watched.Table) (o Objects, err error) {
	all, err := rendered(t)
	if err != nil {
		return o, err
	}
	for _, s := range all {
		for _, found := range tableMade.FindAllStringSubmatch(s.sql, -1) {
			o.Tables = append(o.Tables, found[1])
		}
		for _, found := range functionMade.FindAllStringSubmatch(s.sql, -1) {
			o.Functions = append(o.Functions, found[1])
		}
		for _, found := range triggerMade.FindAllStringSubmatch(s.sql, -1) {
			on := found[2]
			if on == t.SQL() {
				on = t.String()
			}
			o.Triggers = append(o.Triggers, Trigger{Table: on, Name: found[1]})
		}
	}
	for _, i := range indexes(t) {
		o.Indexes = append(o.Indexes, i.Name)
	}
	o.Functions = slices.Compact(o.Functions)
	return o, nil
}

// LatestSQLite returns the version that this program brings a SQLite file to.
func LatestSQLite() uint { return latestOf(sqliteUp) }

// LatestPostgres returns the version that this program brings a PostgreSQL
// database to.
func LatestPostgres() uint { return latestOf(postgresUp) }

func latestOf(pattern string) uint {
	all := scripts(pattern)
	return all[len(all)-1].version
}
