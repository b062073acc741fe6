drop index if exists workflow_runs_presumed;
drop table if exists dead_letters_plain;
create table dead_letters_plain (
    seq         integer primary key,
    received_at integer not null,
    reason      text    not null,
    bytes       integer not null,
    body        blob    not null
) strict;
insert into dead_letters_plain select seq, received_at, reason, bytes, body from dead_letters;
drop table dead_letters;
alter table dead_letters_plain rename to dead_letters;
