drop table if exists grants;
