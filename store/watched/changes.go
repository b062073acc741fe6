package watched

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// fingerprint is over what the description was made from, by names.
func (d *describer) fingerprint() string {
	type facts struct {
		Kind         string
		Columns      []CatalogColumn
		Required     []string // by the table, of columns without a role
		Checks       []Check
		Unique       bool
		PartitionKey []string
		Forced       bool
		Heartbeats   []string
	}
	f := facts{Heartbeats: d.report.Table.Heartbeats, Kind: d.catalog.Kind, PartitionKey: d.catalog.PartitionKey, Forced: d.catalog.ForcedRowSecurity}
	for _, c := range d.report.Table.Columns {
		column, _ := d.catalog.Column(c.Name)
		column.Default, column.References = "", "" // of which nothing is made
		f.Columns = append(f.Columns, column)
	}
	for _, column := range d.catalog.Columns {
		if _, plays := d.playing(column.Name); !plays && column.NotNull && column.Default == "" && !column.Generated {
			f.Required = append(f.Required, column.Name)
		}
	}
	slices.Sort(f.Required)
	for _, check := range d.catalog.Checks {
		if slices.ContainsFunc(check.Columns, func(name string) bool { _, plays := d.playing(name); return plays }) {
			f.Checks = append(f.Checks, check)
		}
	}
	slices.SortFunc(f.Checks, func(a, b Check) int { return cmp.Compare(a.Definition, b.Definition) })
	if id, there := d.report.Table.Column(ID); there {
		f.Unique = d.unique(id.Name)
	}
	text, err := json.Marshal(f)
	if err != nil {
		panic(err) // strings and booleans can all be written
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:8])
}

// Changes says what a table that is described now has that t had not, and the
// other way round, a part of a sentence each: "the column
// completed_at is gone". It returns nothing where what matters is the same.
func (t Table) Changes(now Table) (changes []string) {
	for _, role := range Roles() {
		was, had := t.Column(role)
		is, has := now.Column(role)
		switch {
		case had && !has:
			changes = append(changes, fmt.Sprintf("the column %s is gone", was.Name))
		case !had && has:
			changes = append(changes, fmt.Sprintf("the column %s has come", is.Name))
		case was.Name != is.Name:
			changes = append(changes, fmt.Sprintf("the column %s is gone, and there is %s", was.Name, is.Name))
		case was.Type != is.Type || was.Kind != is.Kind:
			changes = append(changes, fmt.Sprintf("the column %s is %s, and was %s", is.Name, is.Type, was.Type))
		case was.Writable != is.Writable:
			changes = append(changes, fmt.Sprintf("the column %s is generated now, or is no longer", is.Name))
		}
	}
	if t.Partitioned != now.Partitioned {
		changes = append(changes, "it is partitioned now, or is no longer")
	}
	if !slices.Equal(t.Statuses, now.Statuses) {
		changes = append(changes, "the words for its statuses are others")
	}
	if !slices.Equal(t.Heartbeats, now.Heartbeats) {
		changes = append(changes, fmt.Sprintf("its columns of heartbeats are %s", cmp.Or(strings.Join(now.Heartbeats, ", "), "none")))
	}
	if len(changes) == 0 && t.Fingerprint != "" && t.Fingerprint != now.Fingerprint {
		changes = append(changes, "a NOT NULL, a check, a key or a required column has changed")
	}
	return changes
}
