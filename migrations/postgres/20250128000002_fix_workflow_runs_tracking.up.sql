set local lock_timeout = '2s';

-- counts + ledger of a key is the number of its ended runs, per status, in
-- every snapshot (law 1). No check holds the counts at 0 and above: a count
-- that was made wrong by hand must not stop the users' writes before it is
-- mended.
create table if not exists run_counter.counts (
    user_id            uuid   not null,
    kind               text   collate "C" not null check (kind in ('workflow', 'draft')),
    ref_id             uuid   not null,
    completed          bigint not null default 0,
    failed             bigint not null default 0,
    cancelled          bigint not null default 0,
    timeout            bigint not null default 0,
    presumed_completed bigint not null default 0,
    presumed_failed    bigint not null default 0,
    presumed_cancelled bigint not null default 0,
    presumed_timeout   bigint not null default 0,
    primary key (user_id, kind, ref_id)
) with (fillfactor = 70);

-- What has changed since the last fold. Writers only insert, so they never
-- wait for each other. Logged: a crash empties an unlogged table.
create table if not exists run_counter.ledger (
    user_id            uuid    not null,
    kind               text    collate "C" not null check (kind in ('workflow', 'draft')),
    ref_id             uuid    not null,
    seq                bigint  not null generated always as identity,
    at                 timestamptz not null default now(),
    completed          integer not null default 0,
    failed             integer not null default 0,
    cancelled          integer not null default 0,
    timeout            integer not null default 0,
    presumed_completed integer not null default 0,
    presumed_failed    integer not null default 0,
    presumed_cancelled integer not null default 0,
    presumed_timeout   integer not null default 0,
    primary key (user_id, kind, ref_id, seq)
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000); -- folds leave nothing but dead rows

-- Outcomes that a sweep gave to stuck runs, or inferred: any real outcome
-- supersedes them. The key stands here too, so that the row says by itself
-- what it adds to the ledger; kind and ref_id are null for a run without a key.
create table if not exists run_counter.presumed (
    run_id   uuid        not null primary key,
    ended_at timestamptz not null,
    user_id  uuid,
    kind     text        collate "C" check (kind in ('workflow', 'draft')),
    ref_id   uuid,
    status   text        not null check (status in ('completed', 'failed', 'cancelled', 'timeout')),
    check ((kind is null) = (ref_id is null) and (kind is null or user_id is not null))
);

-- What administrators decided. xact lets the guard know the update that
-- belongs to a decision: nobody can forge a row of this table, as they could
-- a setting of their session.
create table if not exists run_counter.amendments (
    seq              bigint      not null generated always as identity primary key,
    run_id           uuid        not null,
    at               timestamptz not null,
    who              text        not null check (who <> ''),
    why              text        not null check (why <> ''),
    was              text,
    was_completed_at timestamptz,
    status           text        not null,
    xact             xid8        not null default pg_current_xact_id()
);
create index if not exists amendments_run on run_counter.amendments (run_id);

-- One row: what is applied on reading, and what can be turned off.
create table if not exists run_counter.settings (
    id        integer not null primary key default 1 check (id = 1),
    policy    text    not null default 'outcomes'
              check (policy in ('outcomes', 'terminal', 'outcomes-except-presumed', 'terminal-except-presumed')),
    guard     boolean not null default true, -- law 2 for every writer
    hardening boolean not null default true, -- end users can't take runs off their bill
    draft_id  boolean not null default true  -- the table has that column, as far as the functions here know
);
insert into run_counter.settings (id) values (1) on conflict do nothing;
update run_counter.settings
   set draft_id = exists (select from pg_attribute where attrelid = 'public.workflow_runs'::regclass and attname = 'draft_id' and not attisdropped)
 where draft_id <> exists (select from pg_attribute where attrelid = 'public.workflow_runs'::regclass and attname = 'draft_id' and not attisdropped);

-- What the counts could not be told, and a full audit finds: the next sweep
-- makes one. Writers only insert, so that none waits for another.
create table if not exists run_counter.audits_due (
    seq bigint      not null generated always as identity primary key,
    at  timestamptz not null default clock_timestamp()
);

revoke all on all tables in schema run_counter from public;

-- The guard: law 2 at the source. It fires only where a writer takes back or
-- rewrites an outcome, or leaves out when it was; every other write pays for a
-- WHEN clause alone. All columns but status and completed_at pass.
--
-- What it fills in an INSERT shows through "excluded" in ON CONFLICT DO UPDATE,
-- where the application may write it into another run: the duration between the
-- INSERT's own times, 0, in place of the run's. So an INSERT of an id that is
-- there is left alone; it fails or becomes an UPDATE, which is filled from its
-- own row. No duration is filled in any INSERT, since the conflict may be over
-- another column, or with a row that comes meanwhile: the end that shows then
-- is the moment of the statement, as the UPDATE would have dated it.
--
-- SECURITY DEFINER, since writers of the table may not read ours. Trigger
-- functions can't be called, and it takes nothing from its caller.
create or replace function run_counter.guard() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $fn$
declare
    v_ended    boolean := false;
    v_presumed boolean;
begin
    if not (select s.guard from run_counter.settings as s) then
        return new;
    end if;
    if tg_op = 'INSERT' then
        if not exists (select from public.workflow_runs as r where r.id = new.id) then
            new.completed_at := run_counter.end_of(new.id, new.created_at, new.started_at, pg_catalog.clock_timestamp());
        end if;
        return new;
    end if;
    v_ended := old.completed_at is not null and coalesce(old.status in ('completed', 'failed', 'cancelled', 'timeout'), false);
    -- An administrator's decision: the one update that leads from what was to
    -- what was decided last, and none that comes behind it in its transaction.
    if v_ended and exists (select from run_counter.amendments as a
                            where a.run_id = old.id and a.xact = pg_catalog.pg_current_xact_id_if_assigned()
                              and a.seq = (select max(l.seq) from run_counter.amendments as l where l.run_id = old.id)
                              and a.was = old.status and a.was_completed_at = old.completed_at and a.status = new.status) then
        return new;
    end if;
    v_presumed := v_ended and exists (select from run_counter.presumed as p
                                       where p.run_id = old.id and p.ended_at = old.completed_at and p.status = old.status);
    if v_ended and not (v_presumed and coalesce(new.status in ('completed', 'failed', 'cancelled', 'timeout'), false)) then
        new.status := old.status; -- the first outcome wins
        new.completed_at := old.completed_at;
        return new;
    end if;
    if v_presumed then -- a real outcome supersedes it, and what the sweep wrote goes with it
        if new.completed_at is not distinct from old.completed_at then
            new.completed_at := null;
        end if;
        if new.duration_ms is not distinct from old.duration_ms then
            new.duration_ms := nullif(old.duration_ms, run_counter.duration_of(old.started_at, old.completed_at));
        end if;
        if new.error_details is not distinct from old.error_details and new.error_details ->> 'code' = 'stuck' then
            new.error_details := null;
        end if;
    end if;
    if new.completed_at is null then
        new.completed_at := run_counter.end_of(new.id, new.created_at, new.started_at, pg_catalog.clock_timestamp());
    end if;
    if new.duration_ms is null then
        new.duration_ms := run_counter.duration_of(new.started_at, new.completed_at);
    end if;
    return new;
end
$fn$;

-- When a run ends whose end is not dated (store.EndOf): at that moment, which is
-- read under its row's lock, but never before it was created or started, and
-- after it was last re-opened. The transaction's own time may be older than all
-- of these.
create or replace function run_counter.end_of(p_run_id uuid, p_created timestamptz, p_started timestamptz, p_at timestamptz) returns timestamptz
language plpgsql stable set search_path = pg_catalog, pg_temp
as $fn$
begin
    return greatest(p_at, nullif(p_created, 'infinity'), nullif(p_started, 'infinity'),
        (select max(a.at) + interval '1 microsecond' from run_counter.amendments as a where a.run_id = p_run_id and a.was_completed_at is not null));
end
$fn$;

-- Null if negative; capped, since an overflow would stop a whole sweep.
create or replace function run_counter.duration_of(p_started timestamptz, p_completed timestamptz) returns integer
language sql immutable set search_path = pg_catalog, pg_temp
as $fn$
    select case when p_completed >= p_started
           then least(trunc(extract(epoch from p_completed - p_started) * 1000), 2147483647)::integer end
$fn$;

-- Hardening: what end users may not do through the table's own policies, or
-- they would erase runs from their bill. The trigger's WHEN names the roles: a
-- function or a cascade that acts as the owner is not stopped.
--
-- Times: none more than five minutes into the future; none back to more than
-- five minutes ago; none more than a day ago in a new row, or where none stood.
-- Five minutes since clocks differ, a second since JavaScript keeps no
-- microseconds, a day since browsers may be offline. An end that the guard
-- keeps needs no bounds.
--
-- Within these bounds a run could still be made to look silent: cancelling, and
-- four minutes old, it would be cancelled a minute later, before its worker
-- writes the real outcome. So what an end user inserts, or gives another status,
-- shows a sign of life of that moment, and no other write of theirs takes one
-- back: else updated_at is set. By that, no sweep takes for stuck what the
-- database saw an end user begin or ask for within the limit. It costs no write,
-- since the row is being written. A trigger on all writers would cost each of
-- the server's updates a call, and the server has no bill to lower.
--
-- $leases$ are the columns of a lease or heartbeat, known by their names;
-- $last(a)$ is the last sign of life of a row, as store.LastSign has it.
--
-- An INSERT of an id that is there can only fail or become an UPDATE (ON
-- CONFLICT), and that is looked at: clients send the old times along.
select run_counter.define(replace(replace(replace($sql$
create or replace function run_counter.harden() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $fn$
declare
    v_now  timestamptz := pg_catalog.clock_timestamp();
    v_past timestamptz := v_now - interval '5 minutes';
    v_old  timestamptz := v_now - interval '1 day';
    v_kept boolean := false; -- the guard keeps the end that stands
    v_was  timestamptz := v_now - interval '1 second'; -- the last sign of life
    v_hint text := 'Do it as service_role, or turn this off: update run_counter.settings set hardening = false.';
begin
    if not (select s.hardening from run_counter.settings as s) then
        if tg_op = 'DELETE' then
            return old;
        end if;
        return new; -- null for TRUNCATE
    end if;
    if tg_op in ('DELETE', 'TRUNCATE') then
        raise insufficient_privilege using
            message = 'end users can''t delete workflow runs: their counts depend on them', hint = v_hint;
    end if;
    if tg_op = 'INSERT' then
        if exists (select from public.workflow_runs as r where r.id = new.id) then
            return new;
        end if;
        if new.status is null or new.status not in ('pending', 'running', 'cancelling', 'completed', 'failed') then
            raise insufficient_privilege using
                message = pg_catalog.format('end users can''t insert a workflow run as %L', new.status),
                hint = 'Use pending, running, cancelling, completed or failed; the server sets cancelled and timeout as service_role.';
        end if;
    else
        if (old.id, old.user_id, old.workflow_id, old.draft_id) is distinct from (new.id, new.user_id, new.workflow_id, new.draft_id) then
            raise insufficient_privilege using
                message = 'end users can''t hand a workflow run to another user, workflow or draft, nor change its id', hint = v_hint;
        end if;
        if new.status is distinct from old.status
           and coalesce(new.status not in ('pending', 'running', 'cancelling', 'completed', 'failed'), true) then
            raise insufficient_privilege using
                message = pg_catalog.format('end users can''t set a workflow run to %L', new.status),
                hint = 'They may ask for it with cancelling; the server sets cancelled and timeout as service_role.';
        end if;
        v_kept := coalesce(old.completed_at is not null and old.status in ('completed', 'failed', 'cancelled', 'timeout'), false)
            and (select s.guard from run_counter.settings as s)
            and not exists (select from run_counter.presumed as p where p.run_id = old.id and p.ended_at = old.completed_at);
        if new.status is not distinct from old.status then
            v_was := $last(old)$;
        end if;
    end if;
    if exists (select from (values (old.created_at, new.created_at), (old.started_at, new.started_at), (old.updated_at, new.updated_at),
                                    (old.completed_at, new.completed_at)) as t (was, is_now)
                where t.is_now is distinct from t.was and t.is_now > v_now + interval '5 minutes') then
        raise insufficient_privilege using message = 'end users can''t set a workflow run''s times into the future', hint = v_hint;
    end if;
    if exists (select from (values (old.created_at, new.created_at), (old.started_at, new.started_at), (old.updated_at, new.updated_at)$leases$) as t (was, is_now)
                where t.is_now < t.was - interval '1 second' and t.is_now < v_past
                   or t.was is null and t.is_now < v_old)
       or new.completed_at < v_old and not v_kept and (tg_op = 'INSERT' or new.completed_at is distinct from old.completed_at) then
        raise insufficient_privilege using message = 'end users can''t move a workflow run''s times into the past', hint = v_hint;
    end if;
    if new.status in ('pending', 'running', 'cancelling')
       and coalesce($last(new)$ < v_was, v_was is not null) then
        new.updated_at := v_now;
    end if;
    return new;
end
$fn$
$sql$, '$leases$', l.leases),
    '$last(old)$', format('coalesce(greatest(%s), old.created_at)', replace(l.signs, '$', 'old'))),
    '$last(new)$', format('coalesce(greatest(%s), new.created_at)', replace(l.signs, '$', 'new'))))
  from (select coalesce(string_agg(format(', (old.%1$I, new.%1$I)', a.attname), '' order by a.attnum) filter (where a.attname ~ '(^|_)lease|heartbeat'), '') as leases,
               coalesce(string_agg(format('case when $.%1$I <= v_now then $.%1$I end', a.attname), ', ' order by a.attnum), 'null::timestamptz') as signs
          from pg_attribute as a
         where a.attrelid = 'public.workflow_runs'::regclass and not a.attisdropped and a.atttypid = 'timestamptz'::regtype
           and a.attname ~ '^(started_at|updated_at)$|(^|_)lease|heartbeat') as l;

-- The ledger triggers: what changed, in the transaction that changed it. Row
-- by row, since statement-level ones with transition tables miss what is
-- written to a partition directly.
select run_counter.define($sql$
create or replace function run_counter.ledger_insert() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $fn$
begin
    insert into run_counter.ledger (user_id, kind, ref_id, completed, failed, cancelled, timeout)
    values (new.user_id, case when new.draft_id is null then 'workflow' else 'draft' end, coalesce(new.draft_id, new.workflow_id),
            (new.status = 'completed')::integer, (new.status = 'failed')::integer,
            (new.status = 'cancelled')::integer, (new.status = 'timeout')::integer);
    return null;
end
$fn$
$sql$);

select run_counter.define($sql$
create or replace function run_counter.ledger_delete() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $fn$
begin
    delete from run_counter.presumed where run_id = old.id;
    if old.user_id is not null and coalesce(old.draft_id, old.workflow_id) is not null then
        insert into run_counter.ledger (user_id, kind, ref_id, completed, failed, cancelled, timeout)
        values (old.user_id, case when old.draft_id is null then 'workflow' else 'draft' end, coalesce(old.draft_id, old.workflow_id),
                -(old.status = 'completed')::integer, -(old.status = 'failed')::integer,
                -(old.status = 'cancelled')::integer, -(old.status = 'timeout')::integer);
    end if;
    return null;
end
$fn$
$sql$);

-- Both keys when a run changes hands: what it was goes from the old key, what
-- it is comes to the new one. A run without a user has no key, as one without
-- workflow and draft has none.
select run_counter.define($sql$
create or replace function run_counter.ledger_update() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $fn$
declare
    v_old uuid := case when old.user_id is not null then coalesce(old.draft_id, old.workflow_id) end;
    v_new uuid := case when new.user_id is not null then coalesce(new.draft_id, new.workflow_id) end;
begin
    if old.completed_at is not null and old.status in ('completed', 'failed', 'cancelled', 'timeout') then
        if (old.id, old.status, old.completed_at) is distinct from (new.id, new.status, new.completed_at) then
            delete from run_counter.presumed where run_id = old.id; -- it was superseded
        else
            update run_counter.presumed
               set user_id = new.user_id, ref_id = v_new,
                   kind = case when v_new is not null then case when new.draft_id is null then 'workflow' else 'draft' end end
             where run_id = old.id;
        end if;
        if v_old is not null then
            insert into run_counter.ledger (user_id, kind, ref_id, completed, failed, cancelled, timeout)
            values (old.user_id, case when old.draft_id is null then 'workflow' else 'draft' end, v_old,
                    -(old.status = 'completed')::integer, -(old.status = 'failed')::integer,
                    -(old.status = 'cancelled')::integer, -(old.status = 'timeout')::integer);
        end if;
    end if;
    if v_new is not null and new.completed_at is not null and new.status in ('completed', 'failed', 'cancelled', 'timeout') then
        insert into run_counter.ledger (user_id, kind, ref_id, completed, failed, cancelled, timeout)
        values (new.user_id, case when new.draft_id is null then 'workflow' else 'draft' end, v_new,
                (new.status = 'completed')::integer, (new.status = 'failed')::integer,
                (new.status = 'cancelled')::integer, (new.status = 'timeout')::integer);
    end if;
    return null;
end
$fn$
$sql$);

create or replace function run_counter.ledger_presumed() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $fn$
begin
    if tg_op in ('UPDATE', 'DELETE') and old.ref_id is not null then
        insert into run_counter.ledger (user_id, kind, ref_id, presumed_completed, presumed_failed, presumed_cancelled, presumed_timeout)
        values (old.user_id, old.kind, old.ref_id,
                -(old.status = 'completed')::integer, -(old.status = 'failed')::integer,
                -(old.status = 'cancelled')::integer, -(old.status = 'timeout')::integer);
    end if;
    if tg_op in ('INSERT', 'UPDATE') and new.ref_id is not null then
        insert into run_counter.ledger (user_id, kind, ref_id, presumed_completed, presumed_failed, presumed_cancelled, presumed_timeout)
        values (new.user_id, new.kind, new.ref_id,
                (new.status = 'completed')::integer, (new.status = 'failed')::integer,
                (new.status = 'cancelled')::integer, (new.status = 'timeout')::integer);
    end if;
    return null;
end
$fn$;

-- A TRUNCATE holds off all writers, so what is counted in its snapshot is what
-- it took away. In REPEATABLE READ the snapshot may be older, and what was
-- committed meanwhile is gone all the same.
create or replace function run_counter.ledger_truncate() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $fn$
begin
    delete from run_counter.presumed;
    insert into run_counter.ledger (user_id, kind, ref_id, completed, failed, cancelled, timeout,
                                    presumed_completed, presumed_failed, presumed_cancelled, presumed_timeout)
    select user_id, kind, ref_id, -sum(completed), -sum(failed), -sum(cancelled), -sum(timeout),
           -sum(presumed_completed), -sum(presumed_failed), -sum(presumed_cancelled), -sum(presumed_timeout)
      from (select user_id, kind, ref_id, completed, failed, cancelled, timeout,
                   presumed_completed, presumed_failed, presumed_cancelled, presumed_timeout
              from run_counter.counts
             union all
            select user_id, kind, ref_id, completed, failed, cancelled, timeout,
                   presumed_completed, presumed_failed, presumed_cancelled, presumed_timeout
              from run_counter.ledger) as k
     group by user_id, kind, ref_id;
    if pg_catalog.current_setting('transaction_isolation') <> 'read committed' then
        insert into run_counter.audits_due default values;
    end if;
    return null;
end
$fn$;

revoke all on all functions in schema run_counter from public;

create or replace trigger ledger_presumed
    after insert or update or delete on run_counter.presumed
    for each row execute function run_counter.ledger_presumed();

-- The names sort last: a BEFORE trigger of the application that ran after the
-- guard could move completed_at on every touch. Not ENABLE ALWAYS, which would
-- count a restored dump twice.
select run_counter.define($sql$
create or replace trigger zzzy_run_counter_hardening
    before insert or update or delete on public.workflow_runs
    for each row when (current_user in ('anon', 'authenticated'))
    execute function run_counter.harden();

create or replace trigger zzzy_run_counter_hardening_truncate
    before truncate on public.workflow_runs
    for each statement when (current_user in ('anon', 'authenticated'))
    execute function run_counter.harden();

create or replace trigger zzzz_run_counter_guard
    before update on public.workflow_runs
    for each row when (
        new.completed_at is null and new.status in ('completed', 'failed', 'cancelled', 'timeout')
        or old.completed_at is not null and old.status in ('completed', 'failed', 'cancelled', 'timeout')
           and (old.status, old.completed_at) is distinct from (new.status, new.completed_at)
    )
    execute function run_counter.guard();

create or replace trigger zzzz_run_counter_guard_insert
    before insert on public.workflow_runs
    for each row when (new.completed_at is null and new.status in ('completed', 'failed', 'cancelled', 'timeout'))
    execute function run_counter.guard();

create or replace trigger zzzz_run_counter_ledger_insert
    after insert on public.workflow_runs
    for each row when (
        new.completed_at is not null and new.status in ('completed', 'failed', 'cancelled', 'timeout')
        and new.user_id is not null and coalesce(new.draft_id, new.workflow_id) is not null
    )
    execute function run_counter.ledger_insert();

create or replace trigger zzzz_run_counter_ledger_update
    after update on public.workflow_runs
    for each row when (
        (old.completed_at is not null and old.status in ('completed', 'failed', 'cancelled', 'timeout')
         or new.completed_at is not null and new.status in ('completed', 'failed', 'cancelled', 'timeout'))
        and (old.id, old.user_id, old.workflow_id, old.draft_id, old.status, old.completed_at)
            is distinct from (new.id, new.user_id, new.workflow_id, new.draft_id, new.status, new.completed_at)
    )
    execute function run_counter.ledger_update();

create or replace trigger zzzz_run_counter_ledger_delete
    after delete on public.workflow_runs
    for each row when (old.completed_at is not null and old.status in ('completed', 'failed', 'cancelled', 'timeout'))
    execute function run_counter.ledger_delete();

create or replace trigger zzzz_run_counter_ledger_truncate
    after truncate on public.workflow_runs
    for each statement execute function run_counter.ledger_truncate();
$sql$);
