package sqlmodel

import "testing"

// TestCasesAsOnPostgreSQL are what generated programs and readers have found,
// each in as few moves as show it.
func TestCasesAsOnPostgreSQL(t *testing.T) {
	t.Parallel()
	h := newTheatre(t, 3)
	for _, c := range []struct {
		name   string
		schema int
		moves  []move
	}{
		{"a foreign key's check is content with the first row that refers", 2, []move{
			{0, "update c set v = 'z' where id = 1", false}, {1, "begin", false}, {1, "update c set v = 'y' where id = 1", false},
			{0, "delete from p where id = 1", false}}},
		{"a lock of a key does not mind an update that left the key alone", 1, []move{
			{0, "begin isolation level repeatable read", false}, {0, "select * from p", false}, {1, "update p set n = n + 1", false},
			{0, "insert into c (pid) values (3)", false}, {0, "select * from p for key share", false}, {0, "select * from p for share", false}}},
		{"skip locked waits for what an update of another's has locked since", 2, []move{
			{0, "begin", false}, {0, "update p set n = n + 1", false}, {0, "select * from p where id = 1 for update", false},
			{1, "select * from p for key share skip locked", false}, {0, "commit", false}}},
		{"a constant that is too long fails before a sequence is drawn from", 1, []move{
			{0, "insert into c (pid, v) values (1, 'a'), (1, 'long')", false}, {0, "insert into c (pid) values (1) returning id", false}}},
		{"the third waits for the second alone", 0, []move{
			{0, "begin", false}, {0, "select * from p where id = 1 for update", false}, {1, "update p set n = n + 1 where id = 1", false},
			{2, "update p set n = n + 2 where id = 1", false}}},
		{"a row that was changed meanwhile is looked at again, and the rest is not", 2, []move{
			{0, "begin", false}, {0, "update p set n = n + 1 where id = 1", false}, {0, "insert into q values (1, 1)", false},
			{1, "update p set n = (select count(*) from q) where n < 5 returning *", false}, {0, "commit", false}}},
		{"in keeps the row that it had found", 2, []move{
			{0, "begin", false}, {0, "update q set a = 2 where a = 1", false}, {1, "update q set b = 9 where a in (select id from p) returning *", false}, {0, "commit", false}}},
		{"not exists is not asked again", 2, []move{
			{0, "begin", false}, {0, "update q set a = 2 where a = 1", false},
			{1, "update q set b = 9 where not exists (select 1 from p where p.id = q.a and p.id = 2) returning *", false}, {0, "commit", false}}},
		{"exists asks the row that it had found", 2, []move{
			{0, "begin", false}, {0, "update q set a = 2 where a = 1", false},
			{1, "update q set b = 9 where exists (select 1 from p where p.id = q.a) returning *", false}, {0, "commit", false}}},
		{"not in is asked again", 2, []move{
			{0, "begin", false}, {0, "update q set a = 2 where a = 1", false},
			{1, "update q set b = 9 where a not in (select id from p where id = 2) returning *", false}, {0, "commit", false}}},
		{"a check fails before the wait", 1, []move{
			{0, "begin", false}, {0, "update p set n = 3 where id = 1", false}, {1, "update p set n = n + 8 where id = 1", false}}},
		{"an insert waits for an update of the row that has its key", 0, []move{
			{0, "begin", false}, {0, "update p set n = 3 where id = 1", false}, {1, "insert into p values (1, 5) on conflict do nothing", false}, {0, "rollback", false}}},
		{"an update of the key is in the way of a child", 0, []move{
			{0, "begin", false}, {0, "update p set id = 9 where id = 3", false}, {1, "insert into c (pid) values (3)", false}, {0, "commit", false}}},
		{"a partial unique index", 1, []move{
			{0, "insert into p values (4, 20, 1)", false}, {0, "update p set n = 2 where id = 4", false},
			{0, "insert into p values (5, 20, 2) on conflict (k) where n > 1 do update set n = 0 returning *", false}}},
		{"rollback to a savepoint gives the locks of its part back", 0, []move{
			{0, "begin", false}, {0, "savepoint a", false}, {0, "update p set n = 2 where id = 1", false}, {1, "select * from p for update", false}, {0, "rollback to a", false}}},
		{"an upsert of one row twice", 0, []move{{0, "insert into p values (1, 1), (1, 2) on conflict (id) do update set n = excluded.n", false}}},
		{"skip locked goes on behind a lock, in the order that was asked for", 0, []move{
			{0, "begin", false}, {0, "select id from p order by id desc limit 1 for update skip locked", true},
			{1, "begin", false}, {1, "select id from p order by id desc limit 1 for update skip locked", true},
			{2, "update p set n = 0 where id = (select id from p order by id desc limit 1 for update skip locked) returning id", false}}},
		{"advisory locks are given in the order of asking", 0, []move{
			{0, "select pg_advisory_lock(1)", false}, {1, "select pg_advisory_lock(1)", false}, {2, "select pg_try_advisory_lock(1)", false},
			{0, "select pg_advisory_unlock(1)", false}, {2, "select pg_try_advisory_lock(1)", false}}},
		{"a deadlock", 0, []move{
			{0, "begin", false}, {1, "begin", false}, {0, "update p set n = 2 where id = 1", false}, {1, "update p set n = 2 where id = 2", false},
			{0, "update p set n = 2 where id = 2", false}, {1, "update p set n = 2 where id = 1", false}, {1, "rollback", false}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			h.leave()
			h.must("drop schema public cascade; create schema public; " + schemas[c.schema] + filling)
			s, err := newStage(schemas[c.schema]+filling, 3)
			if err != nil {
				t.Fatal(err)
			}
			if r := play(h, s, c.moves, []string{"p", "c", "q"}); r.difference != "" || r.refused > 0 {
				t.Errorf("%s, refused %d", r.difference, r.refused)
			}
		})
	}
}
