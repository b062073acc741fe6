package harness

import (
	"strings"
	"testing"
)

// history is a run by what its actors, a and b, sent and were answered.
func history(lines string) *execution {
	r := &execution{sim: &Sim{actors: []*actor{{name: "a"}, {id: 1, name: "b"}}}}
	open := map[int]bool{}
	for _, line := range strings.Split(strings.TrimSpace(lines), "\n") {
		who, rest, _ := strings.Cut(strings.TrimSpace(line), ": ")
		text, answer, _ := strings.Cut(rest, " → ")
		ev := event{actor: strings.Index("ab", who), text: text, result: answer}
		switch text {
		case "begin":
			open[ev.actor] = true
		case "commit", "rollback":
			open[ev.actor] = false
		}
		ev.ends = !open[ev.actor]
		r.events = append(r.events, ev)
	}
	return r
}

// TestAnomaliesHaveNames where there is no doubt, and none where there is.
func TestAnomaliesHaveNames(t *testing.T) {
	for _, test := range []struct{ name, history, want string }{
		{"a row is read and written over", `
			a: select n from t where id = 1 → reads n=0
			b: update t set n = ? where id = ?  [1, 1] → wrote 1
			a: update t set n = ? where id = ?  [1, 1] → wrote 1`, "lost update"},
		{"in transactions of PostgreSQL", `
			a: begin
			a: select n from public.t as x where x.id = $1  [7] → select 1
			b: begin
			b: update t set n = n + 1 where id = $1  [7] → update 1
			b: commit
			a: update t set n = $2 where id = $1  [7, 5] → update 1
			a: commit`, "lost update"},
		{"the whole table", `
			a: select n from t → reads n=0
			b: update t set n = ?  [1] → wrote 1
			a: update t set n = ?  [1] → wrote 1`, "lost update"},
		{"a claim by what the query named", `
			a: select id from jobs where state = 'ready' limit 1 → reads id=3
			b: update jobs set state = 'taken' where id = ?  [3] → wrote 1
			a: update jobs set state = 'taken' where id = ?  [3] → wrote 1`, "lost update"},
		{"a query that may have read another row", `
			a: select id from jobs where state = 'ready' limit 1 → 2 rows
			b: update jobs set state = 'taken' where id = ?  [3] → wrote 1
			a: update jobs set state = 'taken' where id = ?  [3] → wrote 1`, "stale read"},
		{"what is written depends on what is there", `
			a: select n from t where id = 1 → reads n=100
			b: update t set n = n - 60 where id = 1 → wrote 1
			a: update t set n = n - 70 where id = 1 → wrote 1`, "stale read"},
		{"it was read again in between", `
			a: select n from t where id = 1 → reads n=0
			b: update t set n = 1 where id = 1 → wrote 1
			a: select n from t where id = 1 → reads n=1
			a: update t set n = 2 where id = 1 → wrote 1`, "stale read"},
		{"it found no row to write over", `
			a: select n from t where id = 1 → reads n=0
			b: update t set n = 1 where id = 1 → wrote 1
			a: update t set n = 1 where id = 1 and n = 0 → ok`, ""},
		{"the other was rolled back", `
			a: select n from t where id = 1 → reads n=0
			b: begin
			b: update t set n = 1 where id = 1 → wrote 1
			b: rollback
			a: update t set n = 1 where id = 1 → wrote 1`, ""},
		{"the doctors", `
			a: select name from doctors where on_call = true → 2 rows
			b: select name from doctors where on_call = true → 2 rows
			a: update doctors set on_call = false where name = ?  [ada] → wrote 1
			b: update doctors set on_call = false where name = ?  [bob] → wrote 1`, "write skew"},
		{"two tables", `
			a: select n from x → reads n=1
			b: select n from y → reads n=1
			a: update y set n = 0 → wrote 1
			b: update x set n = 0 → wrote 1`, "write skew"},
		{"rows that may be the same", `
			a: select name from doctors where on_call = true → 2 rows
			b: select name from doctors where on_call = true → 2 rows
			a: update doctors set on_call = false where name = ?  [ada] → wrote 1
			b: update doctors set on_call = false where lower(name) = 'bob' → wrote 1`, "stale read"},
		{"rows that one may choose in another way", `
			a: select name from doctors where on_call = true → 2 rows
			b: select name from doctors where on_call = true → 2 rows
			a: update doctors set on_call = false where name = ? and id = 1 or id = 2  [ada] → wrote 1
			b: update doctors set on_call = false where name = ?  [bob] → wrote 1`, "stale read"},
		{"rows that may be the same for their collation", `
			a: select name from doctors where on_call = true → 2 rows
			b: select name from doctors where on_call = true → 2 rows
			a: update doctors set on_call = false where name = ?  [ada] → wrote 1
			b: update doctors set on_call = false where name = ?  [Ada] → wrote 1`, "stale read"},
		{"rows that may be the same number", `
			a: select id from t → 2 rows
			b: select id from t → 2 rows
			a: update t set n = id where id = 1 → wrote 1
			b: update t set n = id where id = '1.0' → wrote 1`, "stale read"},
		{"both look and insert", `
			a: select count(*) from users where email = ?  [x] → reads 0
			b: select count(*) from users where email = ?  [x] → reads 0
			a: insert into users (email) values (?)  [x] → wrote 1
			b: insert into users (email) values (?)  [x] → wrote 1`, "phantom"},
		{"one inserts into what the other has counted", `
			a: select sum(qty) from orders → reads 9
			b: begin
			b: insert into orders values (1) → wrote 1
			b: update stock set n = n - 1 → wrote 1
			b: commit
			a: update stock set n = n - 1 → wrote 1`, "phantom"},
		{"what is inserted is another's", `
			a: select count(*) from users where email = ?  [x] → reads 0
			b: select count(*) from users where email = ?  [y] → reads 0
			a: insert into users (email) values (?)  [x] → wrote 1
			b: insert into users (email) values (?)  [y] → wrote 1`, ""},
		{"an upsert may change what is there", `
			a: select n from t → reads 9
			b: insert into t (id, n) values (1, 2) on conflict (id) do update set n = excluded.n → wrote 1
			a: insert into t (id, n) values (1, 3) on conflict (id) do update set n = excluded.n → wrote 1`, "stale read"},
		{"both look, both act, and one finds that it was done", `
			a: select count(*) from keys where k = 'x' → reads 0
			a: update account set n = n + 10 → wrote 1
			b: select count(*) from keys where k = 'x' → reads 0
			b: update account set n = n + 10 → wrote 1
			b: insert into keys (k) values ('x') on conflict do nothing → wrote 1
			a: insert into keys (k) values ('x') on conflict do nothing → ok`, "phantom"},
		{"one looks, and does nothing", `
			a: select count(*) from keys where k = 'x' → reads 0
			b: insert into keys (k) values ('x') on conflict do nothing → wrote 1
			a: insert into keys (k) values ('x') on conflict do nothing → ok`, ""},
		{"what was inserted was changed before the end, by a statement that is not plain", `
			a: select n from counts where id = 2 → reads n=0
			b: begin
			b: insert into counts (id, n) values (2, 0) on conflict do nothing → wrote 1
			b: with gone as (select 1) update counts set n = 1 where id = 2 → wrote 1
			b: commit
			a: delete from counts where id = 2 → wrote 1`, "stale read"},
		{"by a function, of which nothing is known", `
			a: select count(*) from users where email = ?  [x] → reads 0
			b: begin
			b: insert into users (email) values (?)  [x] → wrote 1
			b: select welcome(7) → reads 1
			b: commit
			a: delete from users → wrote 1`, "stale read"},
		{"different rows, as far as is known", `
			a: select name from doctors where on_call = true → 2 rows
			b: select name from doctors where on_call = true → 2 rows
			a: update doctors set on_call = false where name = ?  [ada] → wrote 1
			a: /* also */ update doctors set on_call = false where name = 'bob' → wrote 1
			b: update doctors set on_call = false where name = ?  [bob] → wrote 1`, "stale read"},
		{"it may have been read again", `
			a: select n from t where id = 1 → reads n=0
			b: update t set n = 1 where id = 1 → wrote 1
			a: with x as (select n from t where id = 1) select n from x → reads n=1
			a: update t set n = 2 where id = 1 → wrote 1`, "stale read"},
		{"one query, two answers", `
			a: begin
			a: select n from t where id = 1 → reads n=0
			b: update t set n = 1 where id = 1 → wrote 1
			a: select n from t where id = 1 → reads n=1
			a: commit`, "non-repeatable read"},
		{"one query, two answers, in no transaction", `
			a: select n from t where id = 1 → reads n=0
			b: update t set n = 1 where id = 1 → wrote 1
			a: select n from t where id = 1 → reads n=1`, ""},
		{"two queries", `
			a: begin
			a: select n from t where id = 1 → reads n=0
			b: update t set n = 1 where id = 1 → wrote 1
			a: select n + 1 from t where id = 1 → reads 2
			a: commit`, "non-repeatable read"},
		{"two queries of other rows", `
			a: begin
			a: select count(*) from runs where ended = true → reads 3
			b: update runs set ended = true where id = 7 → wrote 1
			a: select count(*) from runs where ended = false → reads 0
			a: commit`, "read skew"},
		{"two tables, one before and one after", `
			a: begin
			a: select n from x where id = 1 → reads n=0
			b: begin
			b: update x set n = 1 where id = 1 → wrote 1
			b: update y set n = 1 where id = 1 → wrote 1
			b: commit
			a: select n from y where id = 1 → reads n=1
			a: commit`, "read skew"},
		{"two tables, of which the other wrote one", `
			a: begin
			a: select n from x where id = 1 → reads n=0
			b: update x set n = 1 where id = 1 → wrote 1
			a: select n from y where id = 1 → reads n=0
			a: commit`, ""},
		{"another row of the table", `
			a: begin
			a: select n from t where id = 1 → reads n=0
			b: update t set n = 1 where id = 1 → wrote 1
			a: select n from t where id = 2 → reads n=0
			a: commit`, ""},
		{"two tables, in no transaction", `
			a: select n from x where id = 1 → reads n=0
			b: begin
			b: update x set n = 1 where id = 1 → wrote 1
			b: update y set n = 1 where id = 1 → wrote 1
			b: commit
			a: select n from y where id = 1 → reads n=1`, ""},
		{"as bun writes it", `
			a: SELECT "account"."name", "account"."balance" FROM "accounts" AS "account" WHERE ("account"."name" = 'ada') → reads name=ada balance=100
			b: UPDATE "accounts" AS "account" SET "balance" = 40 WHERE ("account"."name" = 'ada') → wrote 1
			a: UPDATE "accounts" AS "account" SET "balance" = 30 WHERE ("account"."name" = 'ada') → wrote 1`, "lost update"},
		{"as ent writes it", "\n" +
			"			a: SELECT `accounts`.`id`, `accounts`.`name`, `accounts`.`balance` FROM `accounts` WHERE `accounts`.`name` = ? LIMIT 2  [ada] → reads id=1 name=ada balance=100\n" +
			"			b: UPDATE `accounts` SET `balance` = ? WHERE `accounts`.`name` = ?  [40, ada] → wrote 1\n" +
			"			a: UPDATE `accounts` SET `balance` = ? WHERE `accounts`.`name` = ?  [30, ada] → wrote 1", "lost update"},
		{"as gorm writes it, with deleted rows that stay", "\n" +
			"			a: SELECT * FROM `accounts` WHERE (name = ? AND `accounts`.`deleted_at` IS NULL) ORDER BY `accounts`.`name` LIMIT 1  [ada] → reads name=ada balance=100\n" +
			"			b: UPDATE `accounts` SET `balance`=? WHERE `accounts`.`deleted_at` IS NULL AND `name` = ?  [40, ada] → wrote 1\n" +
			"			a: UPDATE `accounts` SET `balance`=? WHERE `accounts`.`deleted_at` IS NULL AND `name` = ?  [30, ada] → wrote 1", "lost update"},
		{"null is not the text", `
			a: select n from t where k is null → reads n=0
			b: update t set n = 1 where k = 'null' → wrote 1
			a: update t set n = 2 where k is null → wrote 1`, ""},
		{"a name that is a word of SQL", `
			a: select n from t where "where" = 1 → reads n=0
			b: update t set n = 1 where "where" = 1 → wrote 1
			a: update t set n = 2 where "where" = 1 → wrote 1`, "lost update"},
		{"not in parentheses", `
			a: select n from t where not (k = 1) → reads n=0
			b: update t set n = 1 where not (k = 1) → wrote 1
			a: update t set n = 2 where not (k = 1) → wrote 1`, "stale read"},
		{"two increments", `
			a: update t set n = n + 1 → wrote 1
			b: update t set n = n + 1 → wrote 1`, ""},
		{"one after the other", `
			a: select n from t → reads n=0
			a: update t set n = 1 → wrote 1
			b: select n from t → reads n=1
			b: update t set n = 2 → wrote 1`, ""},
	} {
		if got, why := history(test.history).why(); got != test.want {
			t.Errorf("%s: got %q, want %q: %s", test.name, got, test.want, strings.Join(why, "\n"))
		}
	}
}

func TestEveryAnomalyHasAFix(t *testing.T) {
	for _, name := range []string{aLostUpdate, aWriteSkew, aPhantom, aStaleRead, aNonRepeatable, aReadSkew} {
		if fix(name, (&Sim{}).traits()) == "" {
			t.Errorf("%s has none", name)
		}
	}
}

// FuzzWording has no text break it.
func FuzzWording(f *testing.F) {
	for _, text := range []string{
		`select 'it''s' from "t" as x where x.a = ?1 and 2 = b limit 1  [1, x]`, `update t set a = b, c = (select 1) from u where`,
		`insert or replace into t (a, b) values (1, $2) returning a  [1, …]`, `delete from t where a = -1;`, `with x as (select 1) select`,
		"select * from `t` where ((`t`.`a` = 1) and \"b\".\"c\" is null and (d = ?))  [1]", `update "t" set "where" = (1) where (("a")) = (1`,
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if w := wordingOf(text); w.apart(w) {
			t.Errorf("%q is apart from itself", text)
		}
	})
}
