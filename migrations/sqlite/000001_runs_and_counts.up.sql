-- A migration here runs in a transaction, and can be run twice: a process that
-- was killed in the middle, or a second one that starts at the same time, does
-- no harm (see migrations.go).
--
-- Times are microseconds since 1970 in UTC; read one with
--   select datetime(completed_at / 1000000, 'unixepoch') from workflow_runs;
--
-- Comments inside a CREATE stay in the file, and sqlite3's .schema shows them: what a
-- table is, who writes it, and whether rows may be deleted by hand.

create table if not exists workflow_runs ( -- each run, merged from the changes that were received; deleting a row makes its count wrong until a recount
    -- Ids are the texts of what the application's table has (store.ID).
    id           text    not null primary key check (length(cast(id as blob)) between 1 and 255),
    -- Empty where that has no column for it (store.Absent).
    user_id      text    check (length(cast(user_id as blob)) <= 255), -- null for a guest's
    workflow_id  text    check (length(cast(workflow_id as blob)) <= 255),
    draft_id     text    check (length(cast(draft_id as blob)) between 1 and 255),
    -- Whose count it is. A run with both ids is the draft's; with neither, or
    -- without a user, it is not counted, and both columns are null.
    kind         text    generated always as (case
                             when user_id is null then null
                             when draft_id is not null then 'draft'
                             when workflow_id = '' then 'all'
                             when workflow_id is not null then 'workflow'
                         end) virtual,
    ref_id       text    generated always as (iif(user_id is null, null, coalesce(draft_id, workflow_id))) virtual,
    status       text    not null,
    created_at   integer,
    started_at   integer,
    updated_at   integer,
    lease_at     integer,
    completed_at integer,
    duration_ms  integer check (duration_ms between 0 and 2147483647),
    error_details text,
    -- How well the outcome is known: store.Evidence. 1 is a presumed outcome.
    evidence     integer not null default 0 check (evidence between 0 and 6),
    amended_at   integer,
    reopened_at  integer,
    -- The last writer: its version and instant, and the views of that instant,
    -- null where the only one is what the columns above say.
    version      integer not null default 0,
    as_of        integer,
    views        text,
    -- An ended run has completed_at, and no active one has.
    check ((completed_at is not null) = (evidence > 0)),
    check (completed_at is null or status not in ('pending', 'running', 'cancelling'))
) strict;

-- Answers last_run_at, and what an audit counts, from the index alone.
create index if not exists workflow_runs_ended
    on workflow_runs (user_id, kind, ref_id, completed_at desc, status, evidence)
    where completed_at is not null;

-- The slots that are taken, and what a sweep looks through.
create index if not exists workflow_runs_active
    on workflow_runs (user_id, kind, ref_id)
    where completed_at is null;

-- What is not counted, or looks wrong, and is reported.
create index if not exists workflow_runs_odd
    on workflow_runs (id)
    where kind is null
       or completed_at < started_at
       or (completed_at is null and status not in ('pending', 'running', 'cancelling'));

create table if not exists snapshots ( -- state_snapshot of a run, apart so that a big one doesn't slow the rest
    run_id         text not null primary key references workflow_runs (id) on delete cascade,
    state_snapshot text not null
) strict;

create table if not exists tombstones ( -- deleted runs, which no later change brings back; do not delete rows
    id         text    not null primary key,
    deleted_at integer not null
) strict, without rowid;

create table if not exists idempotency_keys ( -- the run that a begin with such a key created; a deleted row lets the key create another
    user_id         text not null,
    idempotency_key text not null,
    run_id          text not null,
    primary key (user_id, idempotency_key)
) strict, without rowid;

-- counts of a key is the number of its ended runs, per status and presumed, in
-- every snapshot; a run is in one row. Writers to SQLite take turns, so there is
-- no ledger: the program adds the differences of a transaction to the counts. No
-- check holds these at 0 and above: a count that was made wrong by hand must not
-- stop the writes before it is repaired.
create table if not exists counts ( -- ended runs of a key; runcounter recount rebuilds them: do not edit
    user_id  text    not null,
    kind     text    not null check (kind in ('workflow', 'draft', 'all')),
    ref_id   text    not null,
    status   text    not null,
    presumed integer not null check (presumed in (0, 1)),
    n        integer not null,
    primary key (user_id, kind, ref_id, status, presumed)
) strict, without rowid;

create index if not exists counts_zero on counts (user_id) where n = 0;

-- What a workflow or draft has over all its users: the sum of counts over its users,
-- in every snapshot, since a transaction adds to both. Writers take turns, so one
-- row is enough, where PostgreSQL has eight.
create table if not exists totals ( -- ended runs of a workflow or draft over all users: do not edit
    kind     text    not null check (kind in ('workflow', 'draft', 'all')),
    ref_id   text    not null,
    status   text    not null,
    presumed integer not null check (presumed in (0, 1)),
    n        integer not null,
    primary key (kind, ref_id, status, presumed)
) strict, without rowid;

create index if not exists totals_zero on totals (kind) where n = 0;

create table if not exists settings ( -- one row: never delete it
    id     integer not null primary key check (id = 1),
    -- Which ended runs count; it is applied when counts are read.
    policy text    not null check (policy in
        ('outcomes', 'terminal', 'outcomes-except-presumed', 'terminal-except-presumed'))
) strict;

insert into settings (id, policy) values (1, 'outcomes') on conflict do nothing;
