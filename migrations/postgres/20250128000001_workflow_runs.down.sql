-- The table itself stays, and so does the schema: golang-migrate keeps its
-- version in it.
set local lock_timeout = '2s';
comment on schema run_counter is null;
