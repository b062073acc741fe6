create table if not exists imports ( -- where an import from a live database stands until it ends; one that was stopped goes on from there
    -- Host, port, name, role and table; never a password.
    source   text    not null primary key,
    begun_at integer not null,
    after_id text    not null, -- all rows up to this one were taken
    taken    integer not null, -- how many these are,
    bad      integer not null  -- and how many of them could not be read
) strict, without rowid;
