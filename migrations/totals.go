package migrations

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/edgaze-ai/runcounter/store/watched"
)

// Total is a key's count by the function that ours replaced, and by ours.
type Total struct {
	User string `json:"user_id"`
	Kind string `json:"kind"` // workflow or draft
	Ref  string `json:"ref_id"`
	Old  int64  `json:"old"`
	New  int64  `json:"new"`
}

// Totals says how an earlier get_user_workflow_run_count had counted.
type Totals struct {
	Function  string  `json:"function"`  // what it was, with its arguments
	Compared  int     `json:"compared"`  // for how many keys both have answered
	Different []Total `json:"different"` // where they don't agree
	Failed    int     `json:"failed"`    // for how many keys the earlier one failed
	Failure   string  `json:"failure"`   // how, the first time
	More      bool    `json:"more"`      // there are more keys than were asked for
	// Keeps is the policy under which all of them would stay as they were, "" where
	// they do, or where none is.
	Keeps string `json:"policy_that_keeps_them,omitempty"`
}

const (
	// keysAsked bounds for how many keys the earlier function is asked.
	keysAsked = 1000
	// keysAtOnce go into one statement, which may take 5 s.
	keysAtOnce = 50
)

// SetPolicy has Up set which runs count, by a name of store.Policy. A mirror has
// its policy from serve.
func (m *Migrator) SetPolicy(name string) {
	if m.postgres != nil {
		m.postgres.policy = name
	}
}

// Totals returns how a get_user_workflow_run_count counted that Up has
// replaced by ours; nil where there was none.
func (m *Migrator) Totals() *Totals {
	if m.postgres == nil {
		return nil
	}
	return m.postgres.totals
}

// earlier holds the counts of the function that is about to be replaced.
type earlier struct {
	Totals
	counted []Total // New is not known yet
}

// earlierTotals asks a function that is not ours, in a transaction that can't
// write and is rolled back. That it fails is worth a note, not an error.
func (p *postgres) earlierTotals(conn *sql.Conn) (e *earlier, err error) {
	var name string
	var types, names []byte
	ours, err := p.ours(conn)
	if err != nil {
		return nil, err
	}
	err = conn.QueryRowContext(p.ctx, `
select p.oid::regprocedure::text,
       (select json_agg(format_type(t.oid, null) order by t.n) from unnest(p.proargtypes) with ordinality as t (oid, n)),
       coalesce(to_json(p.proargnames), '[]')
  from pg_proc as p
 where p.pronamespace = 'public'::regnamespace and p.proname = 'get_user_workflow_run_count' and p.prokind = 'f'
   and p.pronargs between 2 and 3 and to_regclass($1) is not null
   and not `+ours+`
 order by p.pronargs desc, p.oid
 limit 1`, p.rendering.table.SQL()).Scan(&name, &types, &names)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	call, err := callOf(name, types, names)
	if err != nil {
		return nil, err
	}
	tx, err := conn.BeginTx(p.ctx, &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, tx.Rollback()) }()
	e = &earlier{Totals: Totals{Function: name}}
	keys, err := p.keys(tx)
	if err != nil {
		e.note(0, plain(err).Error())
		return e, nil
	}
	if e.More = len(keys) > keysAsked; e.More {
		keys = keys[:keysAsked]
	}
	for len(keys) > 0 {
		n := min(keysAtOnce, len(keys))
		if err := e.count(p.ctx, tx, p.rendering.table, call, keys[:n]); err != nil {
			return nil, err
		}
		keys = keys[n:]
	}
	return e, nil
}

// callOf returns a call of the earlier function, in terms of a variable k that
// has user_id, workflow_id and draft_id. Its parameters are known by their
// names, else by their order.
func callOf(name string, types, names []byte) (string, error) {
	var typeList, nameList []string
	if err := errors.Join(json.Unmarshal(types, &typeList), json.Unmarshal(names, &nameList)); err != nil {
		return "", err
	}
	byOrder := []string{"user_id", "workflow_id", "draft_id"}
	args := make([]string, len(typeList))
	for i, t := range typeList {
		column := byOrder[i]
		if i < len(nameList) {
			for _, word := range []string{"user", "workflow", "draft"} {
				if strings.Contains(nameList[i], word) {
					column = word + "_id"
				}
			}
		}
		args[i] = "k." + column + "::" + t
	}
	bare, _, _ := strings.Cut(name, "(")
	if !strings.Contains(bare, ".") {
		bare = "public." + bare
	}
	return bare + "(" + strings.Join(args, ", ") + ")", nil
}

// keys returns up to keysAsked keys that have runs, and one more where there
// are more.
func (p *postgres) keys(tx *sql.Tx) (keys []Total, err error) {
	if _, err := tx.ExecContext(p.ctx, `set local statement_timeout = '30s'; set local lock_timeout = '2s'`); err != nil {
		return nil, err
	}
	rows, err := tx.QueryContext(p.ctx, `
select distinct r.user_id::text, r.kind, r.ref_id::text
  from `+p.rendering.table.Runs("user_id", "kind", "ref_id")+` as r
 where r.ref_id is not null
 limit `+strconv.Itoa(keysAsked+1))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var key Total
		if err := rows.Scan(&key.User, &key.Kind, &key.Ref); err != nil {
			return nil, err
		}
		keys = append(keys, key)
	}
	return keys, rows.Err()
}

// count has the earlier function count some keys in one statement, since the server may be far away. A
// key that fails doesn't stop the others; what takes too long stops these.
func (e *earlier) count(ctx context.Context, tx *sql.Tx, t watched.Table, call string, keys []Total) error {
	var values []string
	for i, key := range keys {
		workflow, draft := watched.Literal(key.Ref), "null"
		switch key.Kind {
		case "draft":
			workflow, draft = draft, workflow
		case "all":
			workflow = "null"
		}
		values = append(values, fmt.Sprintf("(%d, %s::%s, %s::%s, %s::%s)", i,
			watched.Literal(key.User), t.Type(watched.User), workflow, t.Type(watched.Workflow), draft, t.Type(watched.Draft)))
	}
	statement := `
set local statement_timeout = '5s';
do $do$
declare
    k record;
    v_count text;
    v_all jsonb := '[]';
begin
    for k in select * from (values ` + strings.Join(values, ",\n") + `) as v (n, user_id, workflow_id, draft_id) loop
        begin
            v_count := (` + call + `)::text;
            v_all := v_all || jsonb_build_object('n', k.n, 'count', v_count);
        exception when others then
            v_all := v_all || jsonb_build_object('n', k.n, 'error', sqlerrm);
        end;
    end loop;
    perform set_config('run_counter.totals', v_all::text, true);
end
$do$`
	if _, err := tx.ExecContext(ctx, "savepoint counting"); err != nil {
		return err
	}
	var text string
	_, err := tx.ExecContext(ctx, statement)
	if err == nil {
		err = tx.QueryRowContext(ctx, `select current_setting('run_counter.totals')`).Scan(&text)
	}
	if err != nil {
		if serverError(err) == nil {
			return err
		}
		e.note(len(keys), plain(err).Error())
	}
	if _, err := tx.ExecContext(ctx, "rollback to savepoint counting"); err != nil {
		return err
	}
	if text == "" {
		return nil
	}
	return e.read(text, keys)
}

func (e *earlier) read(text string, keys []Total) error {
	var answers []struct {
		N     int
		Count *string
		Error string
	}
	if err := json.Unmarshal([]byte(text), &answers); err != nil {
		return fmt.Errorf("read what it counted: %w", err)
	}
	for _, a := range answers {
		if a.Error != "" {
			e.note(1, a.Error)
			continue
		}
		count := "null"
		if a.Count != nil {
			count = strings.Trim(*a.Count, "()") // a row with one column
		}
		n, err := strconv.ParseInt(count, 10, 64)
		if err != nil {
			e.note(1, "it returned "+count)
			continue
		}
		key := keys[a.N]
		key.Old = n
		e.counted = append(e.counted, key)
	}
	return nil
}

func (e *earlier) note(keys int, failure string) {
	e.Failed += keys
	if e.Failure == "" {
		e.Failure = failure
	}
}

// laterTotals compares with what ours counts now, and looks for the policy under
// which the old numbers would stay.
func (p *postgres) laterTotals(conn *sql.Conn, e *earlier) (*Totals, error) {
	if e == nil {
		return nil, nil
	}
	totals, err := p.compare(conn, e)
	if err != nil || len(totals.Different) == 0 {
		return totals, err
	}
	for _, policy := range []string{"outcomes", "terminal"} {
		under, err := p.compareUnder(conn, e, policy)
		if err != nil {
			return nil, err
		}
		if len(under.Different) == 0 {
			totals.Keeps = policy
			break
		}
	}
	return totals, nil
}

// compareUnder compares under another policy, which it takes back.
func (p *postgres) compareUnder(conn *sql.Conn, e *earlier, policy string) (_ *Totals, err error) {
	tx, err := conn.BeginTx(p.ctx, nil)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, tx.Rollback()) }()
	if err := setPolicy(p.ctx, tx, policy); err != nil {
		return nil, err
	}
	return p.compare(tx, e)
}

func setPolicy(ctx context.Context, in interface {
	ExecContext(ctx context.Context, text string, args ...any) (sql.Result, error)
}, policy string,
) error {
	_, err := in.ExecContext(ctx, `update run_counter.settings set policy = $1 where policy <> $1`, policy)
	return err
}

func (p *postgres) compare(in interface {
	QueryContext(ctx context.Context, text string, args ...any) (*sql.Rows, error)
}, e *earlier,
) (_ *Totals, err error) {
	type question struct {
		N        int     `json:"n"`
		User     string  `json:"user_id"`
		Workflow *string `json:"workflow_id"`
		Draft    *string `json:"draft_id"`
	}
	questions := make([]question, len(e.counted))
	for i, key := range e.counted {
		questions[i] = question{N: i, User: key.User, Workflow: &key.Ref}
		switch key.Kind {
		case "draft":
			questions[i].Workflow, questions[i].Draft = nil, &key.Ref
		case "all":
			questions[i].Workflow = nil
		}
	}
	text, err := json.Marshal(questions)
	if err != nil {
		return nil, err
	}
	t := p.rendering.table
	rows, err := in.QueryContext(p.ctx, `
select k.n, public.get_user_workflow_run_count(k.user_id, k.workflow_id, k.draft_id)
  from json_to_recordset($1::json) as k (n integer, user_id `+t.Type(watched.User)+`, workflow_id `+t.Type(watched.Workflow)+`, draft_id `+t.Type(watched.Draft)+`)
 order by k.n`, string(text))
	if err != nil {
		return nil, fmt.Errorf("compare the counts with the earlier ones: %w", err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	totals := e.Totals
	for rows.Next() {
		var n int
		var count int64
		if err := rows.Scan(&n, &count); err != nil {
			return nil, err
		}
		totals.Compared++
		if key := e.counted[n]; key.Old != count {
			key.New = count
			totals.Different = append(totals.Different, key)
		}
	}
	return &totals, rows.Err()
}
