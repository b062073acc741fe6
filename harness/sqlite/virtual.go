package sqlite

import (
	"database/sql/driver"
	"errors"
	"regexp"
	"slices"
	"strings"

	"modernc.org/sqlite"
)

// A virtual table keeps what it knows in its shadow tables, which stand for it
// here: what touches one of them touches all.
type virtual struct {
	name    string
	reads   []string // tables that hold its contents
	unknown string   // what of it can't be told
}

// shadowed are the modules that keep everything in shadow tables, or in a
// table that their option content names.
var shadowed = []string{"fts5", "rtree", "rtree_i32", "geopoly"}

// stateless are virtual tables that every database has and that read their
// arguments, or the schema.
func stateless(name string) bool {
	return name == "json_each" || name == "json_tree" || strings.HasPrefix(name, "pragma_")
}

var (
	usingPattern   = regexp.MustCompile(`(?is)\busing\s+["'\x60\[]?(\w+)`)
	contentPattern = regexp.MustCompile(`(?is)[(,]\s*content\s*=\s*("[^"]*"|'[^']*'|\[[^\]]*\]|[^\s,)]*)`)
)

// rememberVirtual finds the virtual tables, and whose the shadow tables are.
func (d *Database) rememberVirtual() error {
	d.virtual, d.owner, d.relations = map[string]*virtual{}, map[string]string{}, map[string]bool{}
	names, err := textsOf(d.keeper, `select name from pragma_table_list where schema = 'main'`)
	if err != nil {
		return err
	}
	for _, name := range names {
		d.relations[strings.ToLower(name)] = true
	}
	if names, err = textsOf(d.keeper, `select name from pragma_table_list where schema = 'main' and type = 'virtual'`); err != nil {
		return err
	}
	texts, err := textsOf(d.keeper, `select s.sql from pragma_table_list l join sqlite_master s on s.name = l.name and s.type = 'table' where l.schema = 'main' and l.type = 'virtual'`)
	if err != nil {
		return err
	}
	for i, name := range names {
		d.virtual[strings.ToLower(name)] = d.virtualOf(name, texts[i])
	}
	shadows, err := textsOf(d.keeper, `select name from pragma_table_list where schema = 'main' and type = 'shadow'`)
	for _, shadow := range shadows {
		for _, name := range names { // the longest whose name it begins with
			if len(name) > len(d.owner[shadow]) && strings.HasPrefix(strings.ToLower(shadow), strings.ToLower(name)+"_") {
				d.owner[shadow] = name
			}
		}
	}
	return err
}

func (d *Database) virtualOf(name, text string) *virtual {
	v := &virtual{name: name}
	module := ""
	if m := usingPattern.FindStringSubmatch(text); m != nil {
		module = strings.ToLower(m[1])
	}
	if !slices.Contains(shadowed, module) {
		v.unknown = "what goes on inside the virtual table " + name + " (" + module + ")"
		return v
	}
	if m := contentPattern.FindStringSubmatch(text); m != nil && module == "fts5" {
		if content := strings.Trim(m[1], "\"'[]"); content != "" {
			v.reads = append(v.reads, content)
		}
	}
	return v
}

// tableOf is the table that a row of another stands for.
func (d *Database) tableOf(name string) string {
	if owner := d.owner[name]; owner != "" {
		return owner
	}
	return name
}

// A watcher notes which tables a statement names while it is compiled.
type watcher struct {
	read, written []string
}

// watch lets the authorizer of a connection tell what statements name.
func (d *Database) watch(raw driver.Conn) error {
	r, ok := raw.(sqlite.AuthorizerRegisterer)
	if !ok {
		return errors.New("the driver has no authorizer")
	}
	return r.RegisterAuthorizer(func(action sqlite.AuthorizerActionCode, table, _, schema, _ string) sqlite.AuthorizerReturnCode {
		if w := d.watcher; w != nil && (schema == "main" || schema == "") {
			table = strings.ToLower(table)
			switch action {
			case sqlite.AuthRead:
				w.read = append(w.read, table)
			case sqlite.AuthInsert, sqlite.AuthUpdate, sqlite.AuthDelete:
				w.written = append(w.written, table)
			}
		}
		return sqlite.AuthorizerOK
	})
}

// named adds the virtual tables that a statement names to its plan.
func (p *plan) named(d *Database, w *watcher) {
	if !p.virtual {
		return
	}
	for i, list := range [][]string{w.read, w.written} {
		for _, name := range list {
			v := d.virtual[name]
			switch {
			case v != nil:
				d.touch(p, v, i == 1)
			case !d.relations[name] && !stateless(name):
				d.touch(p, &virtual{name: name, unknown: "what goes on inside the virtual table " + name}, i == 1)
			}
		}
	}
}

func (d *Database) touch(p *plan, v *virtual, write bool) {
	if v.unknown != "" {
		p.other = true
		if !slices.Contains(p.inside, v.unknown) {
			p.inside = append(p.inside, v.unknown)
		}
	}
	for _, name := range append([]string{v.name}, v.reads...) {
		if !slices.Contains(d.tables, name) && name != v.name {
			p.other = true // a view, or nothing
			continue
		}
		p.reads |= d.named(name, &p.read)
	}
	if write {
		p.writes |= d.named(v.name, &p.written)
	}
}
