-- Makes a schema and what is in it the members of an extension, as create
-- extension would from files that aren't installed here: pg_extension lists it,
-- create extension if not exists passes, and drop extension takes it away.
do $do$
declare
    extension text := '{extension}';
    part      text := '{schema}';
    it        oid := pg_nextoid('pg_extension', 'oid', 'pg_extension_oid_index');
begin
    insert into pg_extension (oid, extname, extowner, extnamespace, extrelocatable, extversion)
    values (it, extension, current_user::regrole,
            coalesce(to_regnamespace('extensions'), 'public'::regnamespace), false, '{version}');
    insert into pg_depend (classid, objid, objsubid, refclassid, refobjid, refobjsubid, deptype)
    select member.classid, member.objid, 0, 'pg_extension'::regclass, it, 0, 'e'
      from (select 'pg_namespace'::regclass::oid, part::regnamespace::oid
            union all
            select 'pg_class'::regclass::oid, oid from pg_class where relnamespace = part::regnamespace and relkind in ('r', 'v', 'S')
            union all
            select 'pg_proc'::regclass::oid, oid from pg_proc where pronamespace = part::regnamespace
            union all
            select 'pg_type'::regclass::oid, oid from pg_type where typnamespace = part::regnamespace and typtype = 'd') as member (classid, objid);
end
$do$;
commit;
