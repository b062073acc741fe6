create table if not exists grants ( -- runs that were given on top of a limit: kept for ever, do not delete rows; revoke one instead
    seq             integer primary key,
    user_id         text    not null,
    kind            text    check (kind in ('workflow', 'draft', 'all')),
    ref_id          text, -- null with kind: it raises the limits of the user alone
    runs            integer not null check (runs between 1 and 1000000000),
    who             text    not null check (who <> ''),
    why             text    not null check (why <> ''),
    granted_at      integer not null,
    expires_at      integer check (expires_at > granted_at),
    idempotency_key text    check (idempotency_key <> ''), -- its scope is the user
    revoked_at      integer,
    revoked_by      text    check (revoked_by <> ''),
    revoked_why     text    check (revoked_why <> ''),
    check ((kind is null) = (ref_id is null)),
    check ((revoked_at is null) = (revoked_by is null) and (revoked_at is null) = (revoked_why is null))
) strict;

create unique index if not exists grants_idempotency_key
    on grants (user_id, idempotency_key)
    where idempotency_key is not null;

-- Those that a limit is raised by, and a user's page of them.
create index if not exists grants_user on grants (user_id);

create table if not exists limit_marks ( -- limits of which 80 % or more was used when a run last began under them; a fold drops those of windows after 90 days
    user_id     text    not null,
    kind        text    not null check (kind in ('', 'workflow', 'draft', 'all')), -- empty for the limit of the user over all keys
    ref_id      text    not null,
    max_runs    integer not null,
    counts_from integer, -- null for all time
    marked_at   integer not null,
    primary key (user_id, kind, ref_id)
) strict, without rowid;

-- The list of them, and those that are too old.
create index if not exists limit_marks_marked_at on limit_marks (marked_at);

create table if not exists notices ( -- the last notice to operators of each subject; rows may be deleted: what they tell may be told again
    subject text    not null primary key,
    state   text    not null,
    id      text    not null,
    body    text    not null,
    made_at integer not null,
    due_at  integer, -- null once it was sent or given up
    tries   integer not null default 0
) strict, without rowid;

create index if not exists notices_due_at on notices (due_at) where due_at is not null;
