-- The table itself stays, and so does the schema: golang-migrate keeps its
-- version in it.
set local lock_timeout = '2s';
drop function if exists run_counter.define(text);
drop function if exists run_counter.fit(text);
comment on schema run_counter is null;
