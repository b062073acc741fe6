-- The roles that Supabase has, on a server that may have them already.
begin;
select pg_advisory_xact_lock(7264528100);

do $do$
declare
    r record;
begin
    for r in
        select * from (values
            ('anon', 'nologin noinherit'), ('authenticated', 'nologin noinherit'), ('service_role', 'nologin noinherit bypassrls'),
            ('supabase_admin', 'nologin superuser'), ('supabase_auth_admin', 'nologin noinherit createrole'),
            ('authenticator', 'login noinherit password ''runcounter'''),
            ('owner', 'login createdb createrole bypassrls password ''runcounter''') -- Supabase calls it postgres, the name of the superuser here
        ) as v (name, options)
         where to_regrole(name) is null
    loop
        execute format('create role %I %s', r.name, r.options);
    end loop;
    grant anon, authenticated, service_role to authenticator, owner;
    grant pg_monitor to owner;
end
$do$;

commit;
