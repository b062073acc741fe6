-- Ours go, and what they had replaced comes back: definition, comment, owner
-- and grants, but not anon's EXECUTE. What the application has put in their
-- place since stays, and is named.
set local lock_timeout = '2s';
set local check_function_bodies = off;

do $do$
declare
    o record;
begin
    if to_regclass('run_counter.made') is null then
        return;
    end if;
    perform pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true); -- names are printed with their schema
    for o in
        select m.kind, m.name, (run_counter.fingerprint(m.kind, there.object)).ours
          from run_counter.made as m,
               lateral (select case m.kind when 'view' then to_regclass(m.name)::oid else to_regprocedure(m.name)::oid end as object) as there
         where there.object is not null
         order by m.kind desc, m.name -- the view first
    loop
        if o.ours then
            execute format('drop %s %s', o.kind, o.name);
        else
            raise notice 'Run Counter: leaves the % %, which is not its own', o.kind, o.name;
        end if;
    end loop;
end
$do$;

do $do$
declare
    o        record;
    v_grant  record;
    v_what   text;
    v_role   text;
begin
    if to_regclass('run_counter.replaced') is null then
        return;
    end if;
    for o in select * from run_counter.replaced order by kind, name loop -- functions before views
        if coalesce(to_regclass(case when o.kind = 'view' then o.name end)::oid, to_regprocedure(case when o.kind = 'function' then o.name end)::oid) is not null then
            raise notice 'Run Counter: does not put back the % % of before, since a newer one is in its place', o.kind, o.name;
            continue;
        end if;
        execute o.definition;
        v_what := case o.kind when 'view' then '' else 'routine ' end || o.name;
        execute format('comment on %s %s is %L', case o.kind when 'view' then 'view' else 'routine' end, o.name, o.comment);
        execute format('revoke all on %s from public', v_what);
        foreach v_role in array array['anon', 'authenticated', 'service_role'] loop
            if to_regrole(v_role) is not null then
                execute format('revoke all on %s from %I', v_what, v_role);
            end if;
        end loop;
        for v_grant in
            select case when a.grantee = 0 then 'public' else pg_get_userbyid(a.grantee) end as grantee, a.privilege_type, a.is_grantable
              from aclexplode(coalesce(o.acl, acldefault(case o.kind when 'view' then 'r' else 'f' end::"char", o.owner::regrole))) as a
             where a.grantee = 0 or exists (select from pg_roles where oid = a.grantee)
        loop
            if o.kind = 'function' and v_grant.grantee = 'public' and to_regrole('anon') is not null then
                -- anon had it through PUBLIC: the signed-in keep it
                execute format('grant execute on %s to authenticated, service_role', v_what);
                raise notice 'Run Counter: gives EXECUTE on %, which PUBLIC had and anon with it, back to authenticated and service_role alone; grant it to others who need it', o.name;
            elsif o.kind = 'view' or v_grant.grantee <> 'anon' then
                execute format('grant %s on %s to %s%s', v_grant.privilege_type, v_what,
                               case v_grant.grantee when 'public' then 'public' else quote_ident(v_grant.grantee) end,
                               case when v_grant.is_grantable then ' with grant option' else '' end);
            end if;
        end loop;
        if o.owner <> current_user then
            execute format('alter %s %s owner to %I', case o.kind when 'view' then 'view' else 'routine' end, o.name, o.owner);
        end if;
    end loop;
end
$do$;

drop table if exists run_counter.replaced, run_counter.made;
drop function if exists run_counter.fingerprint(text, oid);

-- The policies on the tables that stay for a moment need it.
drop policy if exists "users see their own counts" on run_counter.counts;
drop policy if exists "users see their own counts" on run_counter.ledger;
do $do$
declare
    v_role text;
begin
    foreach v_role in array array['anon', 'authenticated', 'service_role'] loop
        if to_regrole(v_role) is not null then
            execute format('revoke all on all tables in schema run_counter from %I', v_role);
            execute format('revoke all on all functions in schema run_counter from %I', v_role);
            execute format('revoke all on schema run_counter from %I', v_role);
        end if;
    end loop;
end
$do$;

-- Their arguments have the types of the table's ids.
do $do$
declare
    o record;
begin
    for o in
        select p.oid::regprocedure::text as name
          from unnest(array['settle_totals_for', 'amend_run', 'begin_run', 'mark_limit', 'allowance_own', 'require_begun', 'usage_of', 'granted_of', 'grant_runs', 'revoke_grant', 'complete_own_run', 'complete_run',
                            'look', 'lock_key', 'last_run_at', 'count_own', 'count_in', 'own_counts', 'counted_of', 'tallies_in', 'count_of', 'policy', 'allow_totals', 'allow_user', 'trusted', 'uid']) with ordinality as n (name, place)
          join pg_proc as p on p.proname = n.name and p.pronamespace = to_regnamespace('run_counter')
         order by n.place
    loop
        execute format('drop routine %s', o.name);
    end loop;
end
$do$;
