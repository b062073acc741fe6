-- What was repaired and refused, to explain a run. All but the
-- administrators' decisions are pruned after 90 days.
set local lock_timeout = '2s';

-- One row per run and kind of repair, with a counter.
create table if not exists run_counter.repairs (
    run_id       uuid        not null,
    kind         text        not null,
    times        integer     not null default 1 check (times > 0),
    first_at     timestamptz not null,
    last_at      timestamptz not null,
    was          text,
    status       text        not null,
    completed_at timestamptz not null,
    primary key (run_id, kind)
);
create index if not exists repairs_last_at on run_counter.repairs (last_at);

create table if not exists run_counter.recounts (
    seq     bigint      not null generated always as identity primary key,
    at      timestamptz not null,
    user_id uuid        not null,
    kind    text        collate "C" not null,
    ref_id  uuid        not null,
    before  jsonb       not null,
    after   jsonb       not null
);
create index if not exists recounts_key on run_counter.recounts (user_id, kind, ref_id);

-- Deliveries that were authenticated but can't be read: bounded by number,
-- bytes and age.
create table if not exists run_counter.dead_letters (
    seq         bigint      not null generated always as identity primary key,
    received_at timestamptz not null,
    reason      text        not null,
    bytes       bigint      not null,
    body        bytea       not null
);

-- Active runs all of whose times are still to come, since a clock was ahead:
-- these, and when they were first seen.
create table if not exists run_counter.ahead (
    run_id  uuid        not null primary key,
    times   text        not null,
    seen_at timestamptz not null
);

-- The scope of an idempotency key is the user.
create table if not exists run_counter.idempotency_keys (
    user_id         uuid not null,
    idempotency_key text not null,
    run_id          uuid not null,
    primary key (user_id, idempotency_key)
);

revoke all on all tables in schema run_counter from public;
