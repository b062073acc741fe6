package postgres

import (
	"strings"
	"testing"
)

// TestWhatATextDoesNotTellTouchesEverything: in doubt no order is left out.
func TestWhatATextDoesNotTellTouchesEverything(t *testing.T) {
	c := &catalog{builtin: map[string]byte{"pg_advisory_lock": '3', "nextval": '3', "now": '2', "pg_current_snapshot": '2', "lower": '1', "random": '3', "set_config": '3'}}
	for text, want := range map[string]touched{
		`select lower(n), random(), now() from t`:               {},
		`insert into t values (1) on conflict do nothing`:       {how: writesRows},
		`select n from t for no key update`:                     {how: locksRows},
		`select n from t for share of t`:                        {how: locksRows},
		`select n from t for update skip locked`:                {how: locksRows},
		`with gone as (delete from t returning n) select n`:     {how: writesRows},
		`select pg_advisory_lock(1)`:                            {everything: true},
		`select nextval('s')`:                                   {everything: true},
		`select pg_current_snapshot()`:                          {everything: true},
		`select xmin from t`:                                    {everything: true},
		`select relname from pg_class`:                          {everything: true},
		`select set_config('a.b', $1, false)`:                   {everything: true, defines: true},
		`select n into u from t`:                                {everything: true, defines: true},
		`create table u (n int)`:                                {everything: true, defines: true},
		`do $$ begin end $$`:                                    {everything: true, defines: true},
		`call settle()`:                                         {everything: true, defines: true},
		`copy t from stdin`:                                     {everything: true},
		`savepoint s`:                                           {everything: true},
		`notify news`:                                           {everything: true},
		`select n from U&"\0074"`:                               {everything: true},
		`select n from Äpfel`:                                   {everything: true},
		`select n from ` + strings.Repeat("t", longestName+1):   {everything: true},
		`select n from "` + strings.Repeat("t", 64) + `"`:       {everything: true},
		`select n from t where k = 'pg_advisory_lock(1)' -- do`: {},
	} {
		list := statements(text, false)
		if got := c.touches(list[0]); got.how != want.how && !want.everything || got.everything != want.everything || got.defines != want.defines {
			t.Errorf("%s: got %+v, want %+v", text, got, want)
		}
	}
}
