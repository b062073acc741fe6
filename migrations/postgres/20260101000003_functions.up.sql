-- What applications call. It comes after the fill, so that no count is ever
-- read before it is there.
set local lock_timeout = '2s';

create table if not exists run_counter.replaced (
    kind       text not null check (kind in ('view', 'function')),
    name       text not null,
    definition text not null,
    comment    text,
    owner      name not null,
    acl        aclitem[],
    primary key (kind, name)
);
revoke all on run_counter.replaced from public;

-- What this file has made under names that an application may use as well. A
-- comment says nothing: create or replace leaves ours on the application's own.
create table if not exists run_counter.made (
    kind        text    not null check (kind in ('view', 'function')),
    name        text    not null,
    fingerprint text    not null,
    server      integer not null, -- its major version: another one prints a view differently
    primary key (kind, name)
);
revoke all on run_counter.made from public;

-- The name and the contents of a function or view, printed under one
-- search_path, and whether it is what this file has made.
create or replace function run_counter.fingerprint(p_kind text, p_object oid, out name text, out fingerprint text, out ours boolean)
language plpgsql stable set search_path = pg_catalog, pg_temp
as $fn$
declare
    v_comment text;
begin
    if p_kind = 'function' then
        select p.oid::regprocedure::text, md5(concat_ws('|', p.prosrc, p.prosecdef, p.proconfig)), obj_description(p.oid, 'pg_proc')
          into name, fingerprint, v_comment from pg_proc as p where p.oid = p_object;
    else
        select c.oid::regclass::text, md5(pg_get_viewdef(c.oid)), obj_description(c.oid, 'pg_class')
          into name, fingerprint, v_comment from pg_class as c where c.oid = p_object and c.relkind = 'v';
    end if;
    ours := exists (select from run_counter.made as m
                     where m.kind = p_kind and m.name = fingerprint.name
                       and (m.fingerprint = fingerprint.fingerprint
                            or m.server <> current_setting('server_version_num')::integer / 10000 and v_comment like 'Run Counter:%'));
end
$fn$;
revoke all on function run_counter.fingerprint(text, oid) from public;

-- The application's objects of the same names go, an earlier attempt's or later
-- ones, and are put back by the migration down. A dependent object stops this
-- with its name: nothing is dropped by CASCADE. Who could call them, and can't
-- call ours, is named.
do $do$
declare
    o       record;
    v_grant text;
begin
    perform pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true); -- names are printed with their schema
    for o in
        select c.oid, c.relkind, c.oid::regclass::text as name, case when c.relkind = 'v' then pg_get_viewdef(c.oid) end as body, c.reloptions,
               obj_description(c.oid, 'pg_class') as comment, pg_get_userbyid(c.relowner) as owner, c.relacl
          from pg_class as c
         where c.relnamespace = 'public'::regnamespace and c.relname = 'workflow_run_counts'
           and not (run_counter.fingerprint('view', c.oid)).ours
    loop
        if o.relkind <> 'v' then
            raise exception 'public.workflow_run_counts is not a view, and its name is needed for one'
                using hint = 'Rename it, and migrate again.';
        end if;
        insert into run_counter.replaced (kind, name, definition, comment, owner, acl)
        values ('view', o.name,
                format('create view %s%s as %s', o.name,
                       case when o.reloptions is not null then format(' with (%s)', array_to_string(o.reloptions, ', ')) else '' end, o.body),
                case when o.comment not like 'Run Counter:%' then o.comment end, o.owner, o.relacl)
            on conflict (kind, name) do update
           set definition = excluded.definition, comment = excluded.comment, owner = excluded.owner, acl = excluded.acl;
        execute format('drop view %s', o.name);
        raise notice 'Run Counter: replaces the view % by its own; migrate down puts it back', o.name;
    end loop;
    for o in
        select p.oid::regprocedure::text as name, p.proname, pg_get_functiondef(p.oid) as definition,
               obj_description(p.oid, 'pg_proc') as comment, pg_get_userbyid(p.proowner) as owner, p.proacl, p.proowner
          from pg_proc as p
         where p.pronamespace = 'public'::regnamespace
           and p.proname in ('get_user_workflow_run_count', 'complete_workflow_run', 'complete_workflow_run_and_get_count', 'begin_workflow_run')
           and not (run_counter.fingerprint('function', p.oid)).ours
    loop
        insert into run_counter.replaced (kind, name, definition, comment, owner, acl)
        values ('function', o.name, o.definition, case when o.comment not like 'Run Counter:%' then o.comment end, o.owner, o.proacl)
            on conflict (kind, name) do update
           set definition = excluded.definition, comment = excluded.comment, owner = excluded.owner, acl = excluded.acl;
        execute format('drop routine %s', o.name);
        raise notice 'Run Counter: replaces the function % by its own; migrate down puts it back', o.name;
        for v_grant in
            select distinct case when a.grantee = 0 then 'PUBLIC' else quote_ident(pg_get_userbyid(a.grantee)) end
              from aclexplode(coalesce(o.proacl, acldefault('f', o.proowner))) as a
             where a.grantee <> o.proowner
               and (a.grantee = 0 or pg_get_userbyid(a.grantee) not in ('anon', 'authenticated', 'service_role'))
             order by 1
        loop
            raise notice 'Run Counter: takes EXECUTE on % from %; who has to call what replaces it needs grant execute on function public.%', o.name, v_grant, o.proname;
        end loop;
    end loop;
end
$do$;

-- Who calls. On Supabase the JWT says so; elsewhere there are no end users.
do $do$
begin
    execute format($sql$
create or replace function run_counter.uid() returns uuid
language sql stable set search_path = pg_catalog, pg_temp
as $fn$ select %s $fn$
$sql$, case when to_regprocedure('auth.uid()') is null then 'null::uuid' else 'auth.uid()' end);
end
$do$;

-- The caller is trusted who may begin runs: the owner, service_role, and whom
-- the owner granted it. It takes no argument that says who calls: inside a
-- definer current_user is the owner, and an argument can be made up.
create or replace function run_counter.trusted() returns boolean
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $fn$
declare
    v_role text := nullif(nullif(pg_catalog.current_setting('role', true), ''), 'none');
begin
    return pg_catalog.has_function_privilege(coalesce(v_role, session_user::text),
        'run_counter.begin_run(uuid, uuid, uuid, uuid, bigint, text, timestamptz)', 'execute');
end
$fn$;

create or replace function run_counter.allow_user(p_user_id uuid) returns void
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $fn$
begin
    if run_counter.trusted() or p_user_id = run_counter.uid() then
        return;
    end if;
    raise insufficient_privilege using
        message = 'workflow runs of another user',
        hint = 'A signed-in user may ask for their own runs alone; service_role may ask for all.';
end
$fn$;

create or replace function run_counter.policy() returns text
language sql stable security definer set search_path = pg_catalog, pg_temp
as $fn$ select s.policy from run_counter.settings as s $fn$;

-- The count of a key under the policy in force, in the snapshot of the
-- statement that calls it (law 1).
create or replace function run_counter.count_of(p_user_id uuid, p_kind text, p_ref_id uuid) returns bigint
language plpgsql stable set search_path = pg_catalog, pg_temp
as $fn$
declare
    v_terminal boolean;
    v_except   boolean;
    v_count    bigint;
begin
    select s.policy like 'terminal%', s.policy like '%-except-presumed' into v_terminal, v_except
      from run_counter.settings as s;
    select coalesce(sum(k.completed + k.failed), 0)
           + case when v_terminal then coalesce(sum(k.cancelled + k.timeout), 0) else 0 end
           - case when v_except then coalesce(sum(k.presumed_completed + k.presumed_failed), 0) else 0 end
           - case when v_except and v_terminal then coalesce(sum(k.presumed_cancelled + k.presumed_timeout), 0) else 0 end
      into v_count
      from (select c.completed, c.failed, c.cancelled, c.timeout,
                   c.presumed_completed, c.presumed_failed, c.presumed_cancelled, c.presumed_timeout
              from run_counter.counts as c
             where c.user_id = p_user_id and c.kind = p_kind and c.ref_id = p_ref_id
             union all
            select l.completed, l.failed, l.cancelled, l.timeout,
                   l.presumed_completed, l.presumed_failed, l.presumed_cancelled, l.presumed_timeout
              from run_counter.ledger as l
             where l.user_id = p_user_id and l.kind = p_kind and l.ref_id = p_ref_id) as k;
    return v_count;
end
$fn$;

create or replace function run_counter.count_own(p_user_id uuid, p_kind text, p_ref_id uuid) returns bigint
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $fn$
begin
    perform run_counter.allow_user(p_user_id);
    return run_counter.count_of(p_user_id, p_kind, p_ref_id);
end
$fn$;

-- The counts that the caller may see: their own, or all for the trusted. The
-- signed-in can't read the tables themselves, or pg_graphql would show these to
-- everyone who signs up.
create or replace function run_counter.own_counts() returns table (
    user_id uuid, kind text, ref_id uuid, completed bigint, failed bigint, cancelled bigint, timeout bigint,
    presumed_completed bigint, presumed_failed bigint, presumed_cancelled bigint, presumed_timeout bigint
)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $fn$
#variable_conflict use_column
declare
    v_all  boolean := run_counter.trusted();
    v_user uuid := run_counter.uid();
begin
    return query
    select k.user_id, k.kind, k.ref_id, sum(k.completed)::bigint, sum(k.failed)::bigint, sum(k.cancelled)::bigint, sum(k.timeout)::bigint,
           sum(k.presumed_completed)::bigint, sum(k.presumed_failed)::bigint, sum(k.presumed_cancelled)::bigint, sum(k.presumed_timeout)::bigint
      from (select c.user_id, c.kind, c.ref_id, c.completed, c.failed, c.cancelled, c.timeout,
                   c.presumed_completed, c.presumed_failed, c.presumed_cancelled, c.presumed_timeout
              from run_counter.counts as c
             where v_all or c.user_id = v_user
             union all
            select l.user_id, l.kind, l.ref_id, l.completed, l.failed, l.cancelled, l.timeout,
                   l.presumed_completed, l.presumed_failed, l.presumed_cancelled, l.presumed_timeout
              from run_counter.ledger as l
             where v_all or l.user_id = v_user) as k
     group by k.user_id, k.kind, k.ref_id
    having sum(k.completed + k.failed + k.cancelled + k.timeout) <> 0;
end
$fn$;

-- A maximum can't be kept by differences: it is read from the index.
select run_counter.define($sql$
create or replace function run_counter.last_run_at(p_user_id uuid, p_kind text, p_ref_id uuid) returns timestamptz
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $fn$
begin
    perform run_counter.allow_user(p_user_id);
    if p_kind = 'workflow' then
        return (select r.completed_at
                  from public.workflow_runs as r
                 where r.user_id = p_user_id and r.workflow_id = p_ref_id/*draft*/ and r.draft_id is null/*end*/
                   and r.completed_at is not null and r.status in ('completed', 'failed', 'cancelled', 'timeout')
                 order by r.completed_at desc limit 1);
    end if;
    return (select r.completed_at
              from public.workflow_runs as r
             where r.user_id = p_user_id and r.draft_id = p_ref_id/*draft*/ and r.draft_id is not null/*end*/
               and r.completed_at is not null and r.status in ('completed', 'failed', 'cancelled', 'timeout')
             order by r.completed_at desc limit 1);
end
$fn$
$sql$);

-- The one order of locks: the key's row in counts first. A statement's
-- snapshot is older than the lock it waits for, so counting is done in
-- the next statement. The lock is an UPDATE: in REPEATABLE READ a snapshot that
-- is older than another's lock gets 40001, where `for update` of a row that was
-- only locked would go on and count what is out of date.
create or replace function run_counter.lock_key(p_user_id uuid, p_kind text, p_ref_id uuid) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $fn$
begin
    loop
        update run_counter.counts set completed = completed
         where user_id = p_user_id and kind = p_kind and ref_id = p_ref_id;
        exit when found;
        insert into run_counter.counts (user_id, kind, ref_id) values (p_user_id, p_kind, p_ref_id)
            on conflict (user_id, kind, ref_id) do nothing;
        exit when found;
    end loop; -- again: only a row that is there can be locked, and it may have been pruned in between
end
$fn$;

-- Ends a run that is active or presumed. The row is locked first; whose it is
-- and whether it has ended is looked at in the next statement: in one, the look
-- is older than the wait. Where p_now is null, it is read after the lock.
select run_counter.define($sql$
create or replace function run_counter.complete_run(
    p_run_id uuid, p_status text, p_completed_at timestamptz, p_duration_ms integer, p_error_details jsonb, p_state_snapshot jsonb,
    p_now timestamptz
) returns table (won boolean, owner_id uuid, of_workflow_id uuid, of_draft_id uuid)
language plpgsql set search_path = pg_catalog, pg_temp
as $fn$
declare
    v_run record;
    v_now timestamptz;
    v_end timestamptz;
begin
    if p_status is null or p_status not in ('completed', 'failed', 'cancelled', 'timeout') then
        raise invalid_parameter_value using
            message = pg_catalog.format('a run can''t be completed as %L', p_status),
            hint = 'Use completed, failed, cancelled or timeout.';
    end if;
    perform from public.workflow_runs as r where r.id = p_run_id for no key update;
    if not found then
        return;
    end if;
    select r.user_id, r.workflow_id, r.draft_id as draft_id, r.created_at, r.started_at, r.completed_at, r.duration_ms, r.error_details,
           r.status in ('pending', 'running', 'cancelling') as active,
           exists (select from run_counter.presumed as p
                    where p.run_id = r.id and p.ended_at = r.completed_at and p.status = r.status) as presumed
      into v_run
      from public.workflow_runs as r where r.id = p_run_id;
    perform run_counter.allow_user(v_run.user_id); -- whose it is now: it may have been handed over while this waited
    won := coalesce(v_run.active, false) or v_run.presumed;
    if won then
        if v_run.presumed then -- what a sweep wrote goes with the outcome that it presumed
            v_run.duration_ms := nullif(v_run.duration_ms, run_counter.duration_of(v_run.started_at, v_run.completed_at));
            v_run.error_details := case when v_run.error_details ->> 'code' is distinct from 'stuck' then v_run.error_details end;
        end if;
        v_now := coalesce(p_now, pg_catalog.clock_timestamp());
        v_end := case when p_completed_at is null then run_counter.end_of(p_run_id, v_run.created_at, v_run.started_at, v_now)
                 else run_counter.end_of(p_run_id, null, null, p_completed_at) end;
        update public.workflow_runs as r
           set status = p_status,
               completed_at = v_end,
               duration_ms = coalesce(p_duration_ms, v_run.duration_ms, run_counter.duration_of(v_run.started_at, v_end)),
               error_details = coalesce(p_error_details, v_run.error_details),
               state_snapshot = coalesce(p_state_snapshot, r.state_snapshot),
               updated_at = v_now
         where r.id = p_run_id;
        -- Not before: by the mark the guard knows that the outcome may change.
        -- The ledger trigger drops it where that was written, and this where
        -- the real outcome is the presumed one.
        delete from run_counter.presumed where run_id = p_run_id and not v_run.active;
    end if;
    owner_id := v_run.user_id;
    of_workflow_id := v_run.workflow_id;
    of_draft_id := v_run.draft_id;
    return next;
end
$fn$
$sql$);

create or replace function run_counter.complete_own_run(
    p_run_id uuid, p_status text, p_duration_ms integer, p_error_details jsonb, p_state_snapshot jsonb
) returns table (won boolean, owner_id uuid, of_workflow_id uuid, of_draft_id uuid)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $fn$
begin
    if p_status in ('cancelled', 'timeout') and not run_counter.trusted() and (select s.hardening from run_counter.settings as s) then
        raise insufficient_privilege using
            message = pg_catalog.format('end users can''t set a workflow run to %L', p_status),
            hint = 'They may ask for it with the status cancelling; the server sets cancelled and timeout as service_role.';
    end if;
    return query select * from run_counter.complete_run(p_run_id, p_status, null, p_duration_ms, p_error_details, p_state_snapshot, null);
end
$fn$;

-- Reserves a slot and creates a run, or finds the one that an earlier call
-- with the same idempotency key or id created.
--
-- Counted and active are read in one statement: count_of is STABLE and looks
-- with the snapshot of the statement that calls it. In two, a run that ends
-- between them is in neither, and the limit is exceeded. A slot is promised
-- under the key's lock alone; without it a run is found or refused, which any
-- snapshot can tell.
select run_counter.define($sql$
create or replace function run_counter.begin_run(
    p_run_id uuid, p_user_id uuid, p_workflow_id uuid, p_draft_id uuid, p_limit bigint, p_idempotency_key text, p_now timestamptz
) returns table (id_of_run uuid, created boolean, limit_reached boolean, counted bigint, active bigint)
language plpgsql set search_path = pg_catalog, pg_temp
as $fn$
declare
    v_kind   text := case when p_draft_id is null then 'workflow' else 'draft' end;
    v_ref    uuid := coalesce(p_draft_id, p_workflow_id);
    v_locked boolean := p_limit is null;
    v_now    timestamptz;
    v_run    record;
begin
    if p_user_id is null or v_ref is null then
        raise invalid_parameter_value using message = 'a run needs a user and a workflow or draft';
    elsif p_draft_id is not null and not (select s.draft_id from run_counter.settings as s) then
        raise invalid_parameter_value using message = 'the table workflow_runs has no column draft_id',
            hint = 'If it has one by now, run runcounter migrate up again.';
    end if;
    for i in 1..10 loop
        select n.known, r.id, r.user_id, case when r.draft_id is null then 'workflow' else 'draft' end as kind,
               coalesce(r.draft_id, r.workflow_id) as ref_id,
               run_counter.count_of(p_user_id, v_kind, v_ref) as counted,
               (select count(*) from public.workflow_runs as r
                 where r.user_id = p_user_id and coalesce(r.draft_id, r.workflow_id) = v_ref and (r.draft_id is not null) = (p_draft_id is not null)
                   and (r.completed_at is null or r.status is null or r.status not in ('completed', 'failed', 'cancelled', 'timeout'))) as active
          into v_run
          from (select (select k.run_id from run_counter.idempotency_keys as k
                         where k.user_id = p_user_id and k.idempotency_key = p_idempotency_key) as known) as n
          left join public.workflow_runs as r on r.id = coalesce(n.known, p_run_id);
        id_of_run := coalesce(v_run.known, p_run_id);
        created := v_run.id is null;
        if created and v_run.known is not null then
            raise unique_violation using
                message = pg_catalog.format('run %s was deleted, and a deleted run is never brought back; begin with another id or idempotency key', id_of_run);
        elsif not created and (v_run.user_id, v_run.kind, v_run.ref_id) is distinct from (p_user_id, v_kind, v_ref) then
            raise unique_violation using
                message = pg_catalog.format('run %s is that of another user, workflow or draft; begin with another id or idempotency key', id_of_run);
        end if;
        counted := v_run.counted;
        active := v_run.active;
        limit_reached := created and coalesce(counted + active >= p_limit, false);
        if created and not limit_reached and not v_locked then
            perform run_counter.lock_key(p_user_id, v_kind, v_ref);
            v_locked := true;
            continue; -- and look again: the look was older than the lock
        end if;
        if p_idempotency_key is not null and v_run.known is null and not limit_reached then
            insert into run_counter.idempotency_keys (user_id, idempotency_key, run_id)
            values (p_user_id, p_idempotency_key, id_of_run) on conflict do nothing;
            continue when not found; -- another call was faster: find its run
        end if;
        if limit_reached or not created then
            created := false;
            return next;
            return;
        end if;
        v_now := coalesce(p_now, pg_catalog.clock_timestamp());
        insert into public.workflow_runs as r (id, user_id, workflow_id/*draft*/, draft_id/*end*/, status, created_at, updated_at)
        values (id_of_run, p_user_id, p_workflow_id/*draft*/, p_draft_id/*end*/, 'pending', v_now, v_now) on conflict do nothing;
        if found then
            active := active + 1;
            return next;
            return;
        end if;
        if p_idempotency_key is not null then -- the id was taken meanwhile: the key must not stay with it before it is looked at
            delete from run_counter.idempotency_keys where user_id = p_user_id and idempotency_key = p_idempotency_key and run_id = id_of_run;
        end if;
    end loop;
    raise unique_violation using message = pg_catalog.format('run %s can''t be inserted: another row has a value that must be unique', p_run_id);
end
$fn$
$sql$);

-- An administrator's decision: the one way to change an outcome that was real.
-- A terminal status sets the outcome, an active one re-opens the run. False
-- where that already stands, or there is no such run.
--
-- It is dated after the row's lock and behind the run's last amendment, so that
-- the one that decided last has the last word in a mirror as well. What was
-- re-opened ended before that, even by a clock that the caller read before the
-- wait.
create or replace function run_counter.amend_run(
    p_run_id uuid, p_status text, p_who text, p_why text, p_now timestamptz default null
) returns boolean
language plpgsql set search_path = pg_catalog, pg_temp
as $fn$
declare
    v_opens boolean := coalesce(p_status in ('pending', 'running', 'cancelling'), false);
    v_run   record;
    v_at    timestamptz;
    v_end   timestamptz;
begin
    if p_status is null or p_status not in ('pending', 'running', 'cancelling', 'completed', 'failed', 'cancelled', 'timeout') then
        raise invalid_parameter_value using message = pg_catalog.format('a run can''t be amended to the unknown status %L', p_status);
    elsif coalesce(p_who, '') = '' or coalesce(p_why, '') = '' then
        raise invalid_parameter_value using message = 'an amendment needs who decided it and why';
    end if;
    perform from public.workflow_runs as r where r.id = p_run_id for no key update;
    if not found then
        return false;
    end if;
    select r.status, r.completed_at, r.created_at, r.started_at,
           (select max(a.at) + interval '1 microsecond' from run_counter.amendments as a where a.run_id = r.id) as earliest,
           exists (select from run_counter.presumed as p
                    where p.run_id = r.id and p.ended_at = r.completed_at and p.status = r.status) as presumed
      into v_run
      from public.workflow_runs as r where r.id = p_run_id;
    if v_run.status is not distinct from p_status and not v_run.presumed then
        return false;
    end if;
    v_at := greatest(coalesce(p_now, pg_catalog.clock_timestamp()), v_run.earliest);
    if v_opens and v_run.completed_at > v_at then
        if p_now is null or v_run.completed_at > v_at + (pg_catalog.clock_timestamp() - pg_catalog.statement_timestamp()) then
            raise invalid_parameter_value using
                message = 'a run that ends in the future can''t be re-opened before then',
                hint = 'Amend it to a terminal status instead.';
        end if;
        v_at := v_run.completed_at;
    end if;
    insert into run_counter.amendments (run_id, at, who, why, was, was_completed_at, status)
    values (p_run_id, v_at, p_who, p_why, v_run.status, v_run.completed_at, p_status);
    delete from run_counter.presumed where run_id = p_run_id;
    if v_run.status is distinct from p_status then
        if not v_opens then
            v_end := coalesce(v_run.completed_at, run_counter.end_of(p_run_id, v_run.created_at, v_run.started_at, v_at));
        end if;
        update public.workflow_runs as r
           set status = p_status, completed_at = v_end, updated_at = v_at,
               duration_ms = case when not v_opens then coalesce(r.duration_ms, run_counter.duration_of(r.started_at, v_end)) end,
               error_details = case when not v_opens then r.error_details end
         where r.id = p_run_id;
    end if;
    return true;
end
$fn$;

-- What a webhook makes the server look at: the runs of a delivery, the counts
-- of the keys that it names, and the policy, in one snapshot. A function, since
-- its plans are kept for the session, whatever pooler stands before it, and to
-- plan costs more here than to look.
select run_counter.define($sql$
create or replace function run_counter.look(p_run_ids uuid[], p_user_ids uuid[], p_kinds text[], p_ref_ids uuid[])
returns table (id_of_run uuid, id_of_user uuid, of_workflow_id uuid, of_draft_id uuid, word text, ended_at timestamptz, numbers bigint[])
language plpgsql stable set search_path = pg_catalog, pg_temp
as $fn$
begin
    return query
    select r.id, r.user_id, r.workflow_id, r.draft_id, r.status, r.completed_at, null::bigint[]
      from public.workflow_runs as r
     where r.id = any (p_run_ids);
    return query
    select null::uuid, n.user_id, n.ref_id, null::uuid, n.kind, null::timestamptz,
           array[c.completed, c.failed, c.cancelled, c.timeout, c.presumed_completed, c.presumed_failed, c.presumed_cancelled, c.presumed_timeout]
      from unnest(p_user_ids, p_kinds, p_ref_ids) as n (user_id, kind, ref_id)
      join lateral (select * from run_counter.counts as k
                     where k.user_id = n.user_id and k.kind = n.kind and k.ref_id = n.ref_id limit 1) as c on true
     union all
    select null::uuid, n.user_id, n.ref_id, null::uuid, n.kind, null::timestamptz, l.numbers
      from unnest(p_user_ids, p_kinds, p_ref_ids) as n (user_id, kind, ref_id)
      join lateral (select array[sum(k.completed), sum(k.failed), sum(k.cancelled), sum(k.timeout),
                                 sum(k.presumed_completed), sum(k.presumed_failed), sum(k.presumed_cancelled), sum(k.presumed_timeout)]::bigint[] as numbers
                      from run_counter.ledger as k
                     where k.user_id = n.user_id and k.kind = n.kind and k.ref_id = n.ref_id having count(*) > 0) as l on true;
    return query
    select null::uuid, null::uuid, null::uuid, null::uuid, s.policy, null::timestamptz, null::bigint[]
      from run_counter.settings as s;
end
$fn$
$sql$);

create or replace function public.get_user_workflow_run_count(
    p_user_id uuid, p_workflow_id uuid default null, p_draft_id uuid default null
) returns integer
language sql stable set search_path = pg_catalog, pg_temp
as $fn$
    select run_counter.count_own(p_user_id, case when p_draft_id is null then 'workflow' else 'draft' end,
                                 coalesce(p_draft_id, p_workflow_id))::integer
$fn$;

create or replace function public.complete_workflow_run(
    p_run_id uuid, p_status text, p_duration_ms integer default null, p_state_snapshot jsonb default null, p_error_details jsonb default null
) returns boolean
language plpgsql set search_path = pg_catalog, pg_temp
as $fn$
begin
    return coalesce((select c.won from run_counter.complete_own_run(p_run_id, p_status, p_duration_ms, p_error_details, p_state_snapshot) as c), false);
end
$fn$;

create or replace function public.complete_workflow_run_and_get_count(
    p_run_id uuid, p_status text, p_duration_ms integer default null, p_error_details jsonb default null, p_state_snapshot jsonb default null
) returns table (new_count integer, user_id_out uuid, workflow_id_out uuid, draft_id_out uuid)
language plpgsql set search_path = pg_catalog, pg_temp
as $fn$
begin
    select c.owner_id, c.of_workflow_id, c.of_draft_id into user_id_out, workflow_id_out, draft_id_out
      from run_counter.complete_own_run(p_run_id, p_status, p_duration_ms, p_error_details, p_state_snapshot) as c;
    if found then -- and counted in the next statement, which sees it
        new_count := public.get_user_workflow_run_count(user_id_out, workflow_id_out, draft_id_out);
        return next;
    end if;
end
$fn$;

create or replace function public.begin_workflow_run(
    p_user_id uuid, p_workflow_id uuid default null, p_draft_id uuid default null,
    p_limit integer default null, p_idempotency_key text default null, p_run_id uuid default null
) returns uuid
language plpgsql set search_path = pg_catalog, pg_temp
as $fn$
begin
    return (select case when not b.limit_reached then b.id_of_run end
              from run_counter.begin_run(coalesce(p_run_id, pg_catalog.gen_random_uuid()), p_user_id, p_workflow_id, p_draft_id,
                                         p_limit, p_idempotency_key, null) as b);
end
$fn$;

create or replace view public.workflow_run_counts with (security_invoker = true) as
select k.user_id,
       case when k.kind = 'workflow' then k.ref_id end as workflow_id,
       case when k.kind = 'draft' then k.ref_id end as draft_id,
       k.completed as completed_count,
       k.failed as failed_count,
       k.cancelled + k.timeout as other_terminal_count,
       k.completed + k.failed + k.cancelled + k.timeout as total_count,
       case (select run_counter.policy())
           when 'outcomes' then k.completed + k.failed
           when 'terminal' then k.completed + k.failed + k.cancelled + k.timeout
           when 'outcomes-except-presumed' then k.completed + k.failed - k.presumed_completed - k.presumed_failed
           else k.completed + k.failed + k.cancelled + k.timeout
                - k.presumed_completed - k.presumed_failed - k.presumed_cancelled - k.presumed_timeout
       end as counted_count,
       run_counter.last_run_at(k.user_id, k.kind, k.ref_id) as last_run_at
  from run_counter.own_counts() as k;

comment on view public.workflow_run_counts is 'Run Counter: how many runs each user has finished, per workflow or draft. Each user sees their own.';
comment on function public.get_user_workflow_run_count(uuid, uuid, uuid) is 'Run Counter: the exact count of a user''s finished runs of a workflow or draft.';
comment on function public.complete_workflow_run(uuid, text, integer, jsonb, jsonb) is 'Run Counter: ends a run; true when this call ended it.';
comment on function public.complete_workflow_run_and_get_count(uuid, text, integer, jsonb, jsonb) is 'Run Counter: ends a run, and returns the count of its key.';
comment on function public.begin_workflow_run(uuid, uuid, uuid, integer, text, uuid) is 'Run Counter: reserves a slot and creates a run; null when the limit is reached.';

-- Privileges, each by name. PostgreSQL gives EXECUTE on new functions to
-- everyone, and Supabase used to give all on new objects in public to anon.
revoke all on all functions in schema run_counter from public;
revoke all on function
    public.get_user_workflow_run_count(uuid, uuid, uuid),
    public.complete_workflow_run(uuid, text, integer, jsonb, jsonb),
    public.complete_workflow_run_and_get_count(uuid, text, integer, jsonb, jsonb),
    public.begin_workflow_run(uuid, uuid, uuid, integer, text, uuid) from public;
revoke all on public.workflow_run_counts from public;

do $do$
declare
    v_role text;
begin
    foreach v_role in array array['anon', 'authenticated', 'service_role'] loop
        continue when to_regrole(v_role) is null;
        execute format('revoke all on function
            public.get_user_workflow_run_count(uuid, uuid, uuid),
            public.complete_workflow_run(uuid, text, integer, jsonb, jsonb),
            public.complete_workflow_run_and_get_count(uuid, text, integer, jsonb, jsonb),
            public.begin_workflow_run(uuid, uuid, uuid, integer, text, uuid) from %I', v_role);
        execute format('revoke all on public.workflow_run_counts from %I', v_role);
        execute format('revoke all on all tables in schema run_counter from %I', v_role);
        execute format('revoke all on all functions in schema run_counter from %I', v_role);
        continue when v_role = 'anon';
        execute format('grant usage on schema run_counter to %I', v_role);
        execute format('grant execute on function
            public.get_user_workflow_run_count(uuid, uuid, uuid),
            public.complete_workflow_run(uuid, text, integer, jsonb, jsonb),
            public.complete_workflow_run_and_get_count(uuid, text, integer, jsonb, jsonb),
            run_counter.uid(),
            run_counter.allow_user(uuid),
            run_counter.policy(),
            run_counter.count_own(uuid, text, uuid),
            run_counter.own_counts(),
            run_counter.last_run_at(uuid, text, uuid),
            run_counter.complete_own_run(uuid, text, integer, jsonb, jsonb) to %I', v_role);
        execute format('grant select on public.workflow_run_counts to %I', v_role);
    end loop;
    if to_regrole('service_role') is not null then
        grant execute on all functions in schema run_counter to service_role;
        grant execute on function public.begin_workflow_run(uuid, uuid, uuid, integer, text, uuid) to service_role;
        grant select, insert, update, delete on
            run_counter.counts, run_counter.ledger, run_counter.presumed, run_counter.amendments, run_counter.settings,
            run_counter.repairs, run_counter.recounts, run_counter.dead_letters, run_counter.idempotency_keys, run_counter.audits_due, run_counter.ahead to service_role;
        revoke execute on function run_counter.define(text), run_counter.fit(text), run_counter.fingerprint(text, oid) from service_role;
    end if;
    if to_regrole('authenticated') is not null then
        alter table run_counter.counts enable row level security;
        alter table run_counter.ledger enable row level security;
        drop policy if exists "users see their own counts" on run_counter.counts;
        drop policy if exists "users see their own counts" on run_counter.ledger;
        create policy "users see their own counts" on run_counter.counts
            for select to authenticated using (user_id = (select run_counter.uid()));
        create policy "users see their own counts" on run_counter.ledger
            for select to authenticated using (user_id = (select run_counter.uid()));
    end if;
end
$do$;

delete from run_counter.made;
insert into run_counter.made (kind, name, fingerprint, server)
select o.kind, f.name, f.fingerprint, pg_catalog.current_setting('server_version_num')::integer / 10000
  from (values ('view', 'public.workflow_run_counts'::regclass::oid),
               ('function', 'public.get_user_workflow_run_count(uuid, uuid, uuid)'::regprocedure::oid),
               ('function', 'public.complete_workflow_run(uuid, text, integer, jsonb, jsonb)'::regprocedure::oid),
               ('function', 'public.complete_workflow_run_and_get_count(uuid, text, integer, jsonb, jsonb)'::regprocedure::oid),
               ('function', 'public.begin_workflow_run(uuid, uuid, uuid, integer, text, uuid)'::regprocedure::oid)) as o (kind, object),
       run_counter.fingerprint(o.kind, o.object) as f;
