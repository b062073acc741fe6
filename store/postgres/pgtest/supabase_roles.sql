-- The roles that Supabase has, on a server that may have them already.
begin;
select pg_advisory_xact_lock(7264528100);

do $do$
begin
    if to_regrole('anon') is null then
        create role anon nologin noinherit;
    end if;
    if to_regrole('authenticated') is null then
        create role authenticated nologin noinherit;
    end if;
    if to_regrole('service_role') is null then
        create role service_role nologin noinherit bypassrls;
    end if;
    if to_regrole('supabase_admin') is null then
        create role supabase_admin nologin superuser;
    end if;
    if to_regrole('supabase_auth_admin') is null then
        create role supabase_auth_admin nologin noinherit createrole;
    end if;
    if to_regrole('authenticator') is null then
        create role authenticator login noinherit password 'runcounter';
        grant anon, authenticated, service_role to authenticator;
    end if;
    -- Supabase calls it postgres, the name of the superuser here.
    if to_regrole('owner') is null then
        create role owner login createdb createrole bypassrls password 'runcounter';
        grant anon, authenticated, service_role to owner;
    end if;
    if not pg_has_role('owner', 'pg_monitor', 'member') then
        grant pg_monitor to owner;
    end if;
end
$do$;

commit;
