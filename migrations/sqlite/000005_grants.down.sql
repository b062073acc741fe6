drop table if exists notices;
drop table if exists limit_marks;
drop table if exists grants;
