drop table if exists settings;
drop table if exists totals;
drop table if exists counts;
drop table if exists idempotency_keys;
drop table if exists tombstones;
drop table if exists snapshots;
drop table if exists workflow_runs;
