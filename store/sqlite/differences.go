package sqlite

import (
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"unicode/utf8"

	"github.com/edgaze-ai/runcounter/store"
)

// counter is a row of counts.
type counter struct {
	key      store.Key
	status   store.Status
	presumed bool
}

// counterOf returns where a run is counted, and false for one that is not.
func counterOf(s store.State) (counter, bool) {
	if !s.Ended() || !s.DeletedAt.IsZero() {
		return counter{}, false
	}
	key := s.Row().Key()
	return counter{key, s.Outcome.Outcome.Status, s.Presumed()}, !key.IsZero()
}

// difference adds what a run changes in the counts when it was one thing and is
// another.
func difference(was, is store.State, add func(at counter, n int64)) {
	from, counted := counterOf(was)
	if counted {
		add(from, -1)
	}
	if to, counted := counterOf(is); counted {
		add(to, 1)
	}
}

// note keeps the difference that a run makes until the transaction posts it.
func (t *tx) note(was, is store.State) { t.rules.difference(was, is, t.add) }

func (t *tx) add(at counter, n int64) {
	if t.noted == nil {
		t.noted = map[counter]int64{}
	}
	t.noted[at] += n
}

// noteAll notes the whole of a key so many times.
func (t *tx) noteAll(key store.Key, all store.Tallies, times int64) {
	for _, status := range store.Terminals {
		presumed := all.Presumed.Of(status)
		t.add(counter{key, status, true}, times*presumed)
		t.add(counter{key, status, false}, times*(all.Ended.Of(status)-presumed))
	}
}

// addSQL adds differences to the counts, given as a JSON array of strings: see
// [counterText].
const addSQL = `
insert into counts (user_id, kind, ref_id, status, presumed, n)
select substr(k.value, 14, substr(k.value, 1, 3)),` + counterSQL + `
    on conflict (user_id, kind, ref_id, status, presumed) do update set n = n + excluded.n`

// addTotalsSQL adds those of all users together to the totals.
const addTotalsSQL = `
insert into totals (kind, ref_id, status, presumed, n)
select` + counterSQL + `
    on conflict (kind, ref_id, status, presumed) do update set n = n + excluded.n`

// counterSQL takes apart what stands behind the user.
const counterSQL = `
       substr(k.value, 14 + substr(k.value, 1, 3) + substr(k.value, 4, 3), substr(k.value, 7, 3)),
       substr(k.value, 14 + substr(k.value, 1, 3), substr(k.value, 4, 3)),
       substr(k.value, 14 + substr(k.value, 1, 3) + substr(k.value, 4, 3) + substr(k.value, 7, 3), substr(k.value, 10, 3)),
       cast(substr(k.value, 13, 1) as integer),
       cast(substr(k.value, 14 + substr(k.value, 1, 3) + substr(k.value, 4, 3) + substr(k.value, 7, 3) + substr(k.value, 10, 3)) as integer)
  from json_each(?1) as k
 where true`

// counterText is a difference as addSQL takes it: how many characters user, ref,
// kind and status have, three digits each, whether it is presumed, and then these
// and the number.
func counterText(at counter, n int64) string {
	var lengths, texts string
	for _, text := range []string{at.key.User.String(), at.key.Ref.String(), string(at.key.Kind), string(at.status)} {
		lengths += strconv.Itoa(1000 + utf8.RuneCountInString(text))[1:]
		texts += text
	}
	presumed := "0"
	if at.presumed {
		presumed = "1"
	}
	return lengths + presumed + texts + strconv.FormatInt(n, 10)
}

// writeDifferences adds what was noted to the counts, in one statement for all keys, and to the
// totals of their workflows. What is read of them in the transaction comes after it.
func (t *tx) writeDifferences() error {
	totals := make(map[counter]int64, len(t.noted))
	for at, n := range t.noted {
		at.key.User = store.ID{}
		totals[at] += n
	}
	err := errors.Join(t.addAll(t.stmts.add, t.noted), t.addAll(t.stmts.addTotals, totals))
	clear(t.noted)
	return err
}

func (t *tx) addAll(stmt *sql.Stmt, differences map[counter]int64) error {
	texts := make([]string, 0, len(differences))
	for at, n := range differences {
		if n != 0 {
			texts = append(texts, counterText(at, n))
		}
	}
	if len(texts) == 0 {
		return nil
	}
	if err := t.exec(stmt, jsonList(texts...)); err != nil {
		return fmt.Errorf("count %d differences: %w", len(texts), err)
	}
	return nil
}
