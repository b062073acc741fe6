package anytable

import (
	"cmp"
	"iter"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/edgaze-ai/runcounter/internal/need"
	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/postgres"
	"github.com/edgaze-ai/runcounter/store/postgres/pgtest"
	"github.com/edgaze-ai/runcounter/store/postgres/sourcetest"
	"github.com/edgaze-ai/runcounter/store/storetest"
	"github.com/edgaze-ai/runcounter/store/watched"
	"github.com/edgaze-ai/runcounter/store/watched/watchedtest"
)

// TestMatrix holds tables as people have them to the contract and to the laws: all of
// them to all of it where RUNCOUNTER_MATRIX is set, as a night does. Else some, between
// which all is there that the contract can tell apart, each to every fifth case, so that
// each case is tried on several. The command's test of this name takes all of them from
// as they are to a right count.
func TestMatrix(t *testing.T) {
	need.NoRaceDetector(t)
	t.Parallel()
	all := slices.DeleteFunc(watchedtest.All(), func(f watchedtest.Found) bool { return f.Refused != "" })
	every, seeds := 1, uint64(2)
	if os.Getenv("RUNCOUNTER_MATRIX") == "" {
		all, every, seeds = covering(all), 5, 1
	}
	for i, f := range all {
		t.Run(f.Name, func(t *testing.T) {
			t.Parallel()
			if f.AnyCase() && !pgtest.Offers(t, pgtest.Database(t), "citext") {
				need.Missing(t, "PostgreSQL's extension citext")
			}
			n := 0
			for name, test := range contractOf(f) {
				if n++; n%every == i%every {
					t.Run(name, func(t *testing.T) { test(t) })
				}
			}
			variant := strings.Contains(f.Name, "case T") && !strings.Contains(f.Name, "T13") // of which TestCasesOfVariants_Chaos has the like
			if silent(f) || every > 1 && variant {
				return // law 3 can't hold where nothing says which run is stuck
			}
			t.Run("chaos", func(t *testing.T) { storetest.SourceChaos(t, openFound(f, 0), true, seeds) })
		})
	}
}

// contractOf is what of the contract can be told on such a table.
func contractOf(f watchedtest.Found) iter.Seq2[string, func(testing.TB)] {
	open, lacks := openFound(f, storetest.Rounded), lacksOf(f)
	if absent := absentOf(f); absent != (storetest.Absent{}) {
		return storetest.ContractAbsent(absent, open, lacks...)
	}
	return storetest.Contract(open, lacks...)
}

// openFound opens a store on such a table, whose ids it turns. Where the table rounds
// its times, they are so much earlier.
func openFound(f watchedtest.Found, earlier time.Duration) storetest.Open {
	if finest(f) == time.Microsecond {
		earlier = 0
	}
	ids := func(role watched.Role) storetest.OtherIDs {
		_, typ, there := f.Has(role)
		switch word, _, _ := strings.Cut(watchedtest.Base(typ), " "); {
		case strings.HasPrefix(typ, "flow"): // which is short
			return storetest.TextIDsUpTo(99)
		case !there || word == "uuid":
			return storetest.UUIDs
		case word == "bigint":
			return storetest.BigintIDs
		case word == "integer" || word == "serial":
			return storetest.IntegerIDs
		case strings.HasPrefix(word, "varchar("):
			most, _ := strconv.Atoi(strings.Trim(word, "varch()"))
			return storetest.TextIDsUpTo(most)
		}
		return storetest.TextIDs
	}
	return storetest.ByColumn{Run: ids(watched.ID), User: ids(watched.User), Ref: ids(watched.Workflow), Earlier: earlier}.Open(func(t testing.TB) storetest.Backend {
		t.Helper()
		address := pgtest.Copy(t, "matrix: "+f.Name, func(address string) {
			pgtest.Exec(t, address, f.DDL())
			sourcetest.Migrate(t, address, sourcetest.UpWith(f.Said()))
			pgtest.Exec(t, address, `create function exact() returns setof text language plpgsql as $exact$ begin return query `+exactFound(f)+`; end $exact$`)
		})
		pool := sourcetest.Pool(t, address)
		s := mustOpen(t, address, postgres.Options{})
		b := sourcetest.Backend(t, s, pool)
		b.Absent, b.Fit = absentOf(f), fitting(f)
		b.Exact = func(t testing.TB) {
			t.Helper()
			sourcetest.Complain(t, sourcetest.Texts(t, pool, `select exact()`))
		}
		makeExactIn := sync.OnceFunc(func() {
			table, err := s.Table(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			pgtest.Exec(t, address, sourcetest.ExactInSQL(table, exactFound(f)))
		})
		b.ExactIn = func(t testing.TB, of store.Scope, in store.Window) {
			t.Helper()
			makeExactIn()
			sourcetest.ExactIn(t, pool, of, in)
		}
		return b
	})
}

func absentOf(f watchedtest.Found) storetest.Absent {
	return storetest.Absent{User: !f.Plays(watched.User), Workflow: !f.Plays(watched.Workflow)}
}

// silent reports a table of which no column says that a run is alive.
func silent(f watchedtest.Found) bool {
	return !slices.ContainsFunc([]watched.Role{watched.CreatedAt, watched.StartedAt, watched.UpdatedAt}, f.Plays)
}

// lacksOf is what of the suite's needs such a table does not have.
func lacksOf(f watchedtest.Found) (lacks []string) {
	for _, role := range watched.Roles() {
		_, typ, there := f.Has(role)
		words := typ == "text" && (role == watched.ErrorDetails || role == watched.StateSnapshot) // of which no reader knows that they were JSON
		if !there || words || strings.Contains(typ, "generated always") {
			lacks = append(lacks, needed(role))
		}
	}
	if closed(f) {
		lacks = append(lacks, "other words")
		for s := range sayable() {
			if _, there := f.Word(s); !there {
				lacks = append(lacks, string(s))
			}
		}
	}
	if !slices.ContainsFunc([]watched.Role{watched.CreatedAt, watched.UpdatedAt}, f.Plays) {
		lacks = append(lacks, "begun")
	}
	if nobody(f) {
		lacks = append(lacks, "guests")
	}
	if silent(f) {
		lacks = append(lacks, "alive")
	}
	if finest(f) > time.Microsecond {
		lacks = append(lacks, "microseconds")
	}
	return lacks
}

// closed reports a table that allows no words but those that mean something.
func closed(f watchedtest.Found) bool {
	_, typ, _ := f.Has(watched.Status)
	return strings.HasPrefix(typ, "run_") && strings.Contains(f.Before, "as enum") || strings.Contains(typ, "check (")
}

// nobody reports a table whose domain takes no run without a user.
func nobody(f watchedtest.Found) bool {
	_, typ, _ := f.Has(watched.User)
	return strings.HasPrefix(typ, "person")
}

// needed is what the suite calls the role's column.
func needed(role watched.Role) string {
	if role == watched.Draft {
		return "draft_id"
	}
	return string(role)
}

// sayable are all statuses that have a word.
func sayable() map[store.Status]bool {
	all := map[store.Status]bool{store.Pending: true, store.Running: true, store.Cancelling: true}
	for _, s := range store.Terminals {
		all[s] = true
	}
	return all
}

// finest is what the table's times are rounded to, at most.
func finest(f watchedtest.Found) time.Duration {
	finest := time.Microsecond
	for _, role := range []watched.Role{watched.CompletedAt, watched.CreatedAt, watched.StartedAt, watched.UpdatedAt} {
		switch _, typ, _ := f.Has(role); {
		case strings.HasPrefix(typ, "bigint") && f.Times == watched.Seconds:
			finest = time.Second
		case strings.HasPrefix(typ, "bigint"), strings.Contains(typ, "(3)"):
			finest = max(finest, time.Millisecond)
		}
	}
	return finest
}

// fitting makes the rows of a drawn application those of such a table: it says what
// the table has a word for, knows drafts for workflows where there are none, and its
// clock ticks as the table's times do.
func fitting(f watchedtest.Found) func(store.Row) store.Row {
	other := map[store.Status]store.Status{store.Pending: store.Running, store.Cancelling: store.Running, store.Cancelled: store.Failed, store.Timeout: store.Failed}
	closed, tick := closed(f), finest(f)
	return func(r store.Row) store.Row {
		switch _, there := f.Word(r.Status); {
		case !closed:
		case !sayable()[r.Status]:
			r.Status = store.Running
		case !there:
			r.Status = other[r.Status]
		}
		if absentOf(f) == (storetest.Absent{}) && !f.Plays(watched.Draft) {
			r.Workflow, r.Draft = cmp.Or(r.Draft, r.Workflow), store.ID{}
		}
		if nobody(f) && r.User.IsZero() {
			r.User = storetest.MustID('a', 1)
		}
		for _, at := range []*time.Time{&r.CreatedAt, &r.StartedAt, &r.UpdatedAt, &r.CompletedAt} {
			*at = at.Truncate(tick)
		}
		return r
	}
}

var (
	keyOfRuns  = regexp.MustCompile(`case when r\.draft_id is null then 'workflow' else 'draft' end as kind, coalesce\(r\.draft_id, r\.workflow_id\) as ref_id`)
	noKeyOfRun = "coalesce(r.draft_id, r.workflow_id) is not null"
)

// exactFound is exactSQL for a table that is read as it was described.
func exactFound(f watchedtest.Found) string {
	text := keyOfRuns.ReplaceAllString(sourcetest.ExactSQL, "r.kind, r.ref_id")
	text = strings.NewReplacer(noKeyOfRun, "r.ref_id is not null", "from workflow_runs as r", "from ("+f.Rows()+") as r").Replace(text)
	if absentOf(f).User {
		text = strings.ReplaceAll(text, "octet_length(r.user_id::text) between 1 and 255 and ", "")
	}
	return text
}

// covering are descriptions between which every feature is that any has: each time
// the one with most that are not there yet.
func covering(all []watchedtest.Found) (some []watchedtest.Found) {
	missing := map[string]bool{}
	for _, f := range all {
		for _, feature := range distinctions(f) {
			missing[feature] = true
		}
	}
	for len(missing) > 0 {
		most, best := 0, watchedtest.Found{}
		for _, f := range all {
			n := 0
			for _, feature := range distinctions(f) {
				if missing[feature] {
					n++
				}
			}
			if n > most {
				most, best = n, f
			}
		}
		for _, feature := range distinctions(best) {
			delete(missing, feature)
		}
		some = append(some, best)
	}
	return some
}

// distinctions are what the contract can tell tables apart by.
func distinctions(f watchedtest.Found) []string {
	all := lacksOf(f)
	for _, role := range watched.Roles() {
		_, typ, _ := f.Has(role)
		switch word, _, _ := strings.Cut(typ, " "); role {
		case watched.User, watched.Workflow, watched.Draft:
			all = append(all, "key "+regexp.MustCompile(`[(\d)]+`).ReplaceAllString(word, ""))
		default:
			all = append(all, string(role)+" "+word)
		}
	}
	for ours, theirs := range f.Words {
		all = append(all, string(ours)+" is "+theirs)
	}
	return append(all, f.Suffix, string(f.Times), f.Zone)
}
