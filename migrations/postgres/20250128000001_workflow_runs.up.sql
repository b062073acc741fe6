-- Every file here is one transaction, can be run twice, and gives up within
-- two seconds rather than make a busy table wait behind it: the next try goes
-- on from there (see migrations.go).
set local lock_timeout = '2s';

create schema if not exists run_counter;
comment on schema run_counter is 'Run Counter: the counts of workflow_runs, and what keeps them exact. Not for the Data API.';
revoke all on schema run_counter from public;

-- The watched table, where there is none. One that exists is never changed.
do $do$
begin
    if to_regclass('public.workflow_runs') is not null then
        return;
    end if;
    create table public.workflow_runs (
        id             uuid        not null primary key default gen_random_uuid(),
        user_id        uuid        not null,
        workflow_id    uuid,
        draft_id       uuid,
        status         text        not null default 'pending',
        started_at     timestamptz,
        completed_at   timestamptz,
        duration_ms    integer,
        error_details  jsonb,
        state_snapshot jsonb,
        created_at     timestamptz not null default now(),
        updated_at     timestamptz not null default now()
    );
    comment on table public.workflow_runs is 'One row per workflow run. Run Counter counts those that have ended.';
    -- Nobody but the server reads it until the application says so.
    alter table public.workflow_runs enable row level security;
    if to_regrole('anon') is not null then
        revoke all on public.workflow_runs from anon;
    end if;
    if to_regrole('service_role') is not null then
        grant all on public.workflow_runs to service_role;
    end if;
    if to_regrole('authenticated') is not null then
        revoke all on public.workflow_runs from authenticated;
        if to_regprocedure('auth.uid()') is not null then
            create policy "users see their own runs" on public.workflow_runs
                for select to authenticated using ((select auth.uid()) = user_id);
        end if;
    end if;
end
$do$;

-- The table may or may not have draft_id, and a trigger function that names a
-- column which isn't there stops every write. fit takes it out of a statement:
-- new.draft_id, old.draft_id and r.draft_id become null, and what stands
-- between /*draft*/ and /*end*/ goes.
create or replace function run_counter.fit(p_sql text) returns text
language sql stable set search_path = pg_catalog, pg_temp
as $fn$
    select case
               when exists (select from pg_catalog.pg_attribute
                             where attrelid = 'public.workflow_runs'::regclass and attname = 'draft_id' and not attisdropped)
               then p_sql
               else pg_catalog.regexp_replace(
                        pg_catalog.regexp_replace(p_sql, '/\*draft\*/.*?/\*end\*/', '', 'g'),
                        '\m(new|old|r)\.draft_id\M', 'null::uuid', 'g')
           end
$fn$;

create or replace function run_counter.define(p_sql text) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $fn$
begin
    execute run_counter.fit(p_sql);
end
$fn$;

revoke all on function run_counter.fit(text), run_counter.define(text) from public;
