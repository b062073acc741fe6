drop table if exists imports;
