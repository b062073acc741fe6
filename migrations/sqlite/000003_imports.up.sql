-- Where an import from a live database stands, until it has come to its end:
-- one that was stopped goes on from there.
create table if not exists imports (
    -- Host, port, name, role and table; never a password.
    source   text    not null primary key,
    begun_at integer not null,
    after_id text    not null, -- all rows up to this one were taken
    taken    integer not null, -- how many these are,
    bad      integer not null  -- and how many of them could not be read
) strict, without rowid;
