drop table if exists activity;
drop table if exists dead_letters;
drop table if exists recounts;
drop table if exists amendments;
drop table if exists repairs;
drop table if exists ahead;
