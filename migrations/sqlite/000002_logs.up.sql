-- What was repaired, decided and refused, to explain a run. All but the
-- administrators' decisions are pruned after 90 days.

create table if not exists repairs ( -- one row per run and kind of repair, with a counter; pruned after 90 days, rows may be deleted
    run_id       text    not null,
    kind         text    not null,
    times        integer not null default 1 check (times > 0),
    first_at     integer not null,
    last_at      integer not null,
    was          text    not null,
    status       text    not null,
    completed_at integer not null,
    primary key (run_id, kind)
) strict, without rowid;

create table if not exists ahead ( -- active runs whose times are all to come, since a clock was ahead; rows may be deleted
    run_id  text    not null primary key,
    times   text    not null,
    seen_at integer not null
) strict, without rowid;

create index if not exists repairs_last_at on repairs (last_at);

create table if not exists amendments ( -- decisions of administrators: kept for ever, do not delete rows
    seq              integer primary key,
    run_id           text    not null,
    at               integer not null,
    who              text    not null check (who <> ''),
    why              text    not null check (why <> ''),
    was              text    not null,
    was_completed_at integer,
    status           text    not null
) strict;

create index if not exists amendments_run on amendments (run_id);

create table if not exists recounts ( -- counts that were wrong and were set right; pruned after 90 days, rows may be deleted
    seq     integer primary key,
    at      integer not null,
    user_id text    not null,
    kind    text    not null,
    ref_id  text    not null,
    before  text    not null check (json_valid(before)),
    after   text    not null check (json_valid(after))
) strict;

create index if not exists recounts_at on recounts (at);

-- The number of a letter that was dropped is never given again: an operator who
-- replays or drops it once more must not meet another one.
create table if not exists dead_letters ( -- deliveries that were authenticated and could not be read, bounded by number, bytes and age
    seq         integer primary key autoincrement,
    received_at integer not null,
    reason      text    not null,
    bytes       integer not null,
    body        blob    not null
) strict;

create table if not exists activity ( -- what arrived in each minute, for the charts of the console; pruned after 8 days, rows may be deleted
    minute       integer not null primary key,
    since        integer not null, -- from when on an instance has watched without a gap
    deliveries   integer not null,
    refused      integer not null, -- of the deliveries, those that the sender has to mend
    failed       integer not null, -- of the deliveries, those that the database or the program could not take
    changes      integer not null, -- that said something new
    duplicates   integer not null, -- changes that were known already
    out_of_order integer not null,
    lost         integer not null, -- calls and statements that were found lost on their way
    lag          integer not null  -- the greatest, in microseconds
) strict;
