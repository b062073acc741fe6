-- A project as it is found at a real user: workflow_runs with all its columns,
-- policies, foreign keys and triggers of the application, and an earlier
-- attempt's functions and view. Run as the owner of schema public.
create table public.workflows (id uuid primary key, user_id uuid not null references auth.users (id) on delete cascade);
create table public.workflow_drafts (id uuid primary key, user_id uuid not null references auth.users (id) on delete cascade);
create table public.workflow_events (id bigint generated always as identity primary key, run_id uuid, status text, at timestamptz default now());

create table public.workflow_runs (
    id                         uuid primary key default gen_random_uuid(),
    user_id                    uuid not null references auth.users (id) on delete cascade,
    workflow_id                uuid references public.workflows (id) on delete cascade,
    draft_id                   uuid references public.workflow_drafts (id) on delete cascade,
    status                     text default 'pending',
    started_at                 timestamptz,
    completed_at               timestamptz,
    duration_ms                int,
    error_details              jsonb,
    state_snapshot             jsonb,
    checkpoint                 jsonb,
    metadata                   jsonb,
    run_input                  jsonb,
    final_output               jsonb,
    compiled_workflow_snapshot jsonb,
    idempotency_key            text,
    outcome                    text,
    terminal_reason            text,
    compiled_workflow_hash     text,
    workflow_version_id        uuid,
    cancel_requested_at        timestamptz,
    cancelled_at               timestamptz,
    finalized_at               timestamptz,
    last_event_sequence        bigint not null default 0,
    created_at                 timestamptz not null default now(),
    updated_at                 timestamptz not null default now(),
    constraint one_of_workflow_and_draft check ((workflow_id is null) <> (draft_id is null))
);
alter table public.workflow_runs enable row level security;
alter table public.workflows enable row level security;
alter table public.workflow_drafts enable row level security;
alter table public.workflow_events enable row level security;
create policy "own runs" on public.workflow_runs for all to authenticated
    using ((select auth.uid()) = user_id) with check (true); -- too wide, as many are
create policy "own workflows" on public.workflows for all to authenticated using ((select auth.uid()) = user_id);

create function public.touch() returns trigger language plpgsql set search_path = '' as $fn$
begin
    new.updated_at := now();
    if new.status in ('completed', 'failed') and old.completed_at is null then
        new.completed_at := coalesce(new.completed_at, now());
    end if;
    return new;
end
$fn$;
create trigger touch before update on public.workflow_runs for each row execute function public.touch();

create function public.log_event() returns trigger language plpgsql security definer set search_path = '' as $fn$
begin
    insert into public.workflow_events (run_id, status) values (new.id, new.status);
    return null;
end
$fn$;
create trigger log_event after insert or update on public.workflow_runs for each row execute function public.log_event();

-- The application's own way for a user to cancel a run.
create function public.cancel_my_run(p_run_id uuid) returns boolean language plpgsql security definer set search_path = '' as $fn$
begin
    update public.workflow_runs set status = 'cancelled', completed_at = now()
     where id = p_run_id and user_id = auth.uid() and status in ('pending', 'running', 'cancelling');
    return found;
end
$fn$;

-- The earlier attempt: other types, other names of parameters, an overload,
-- SECURITY DEFINER, and open to anon.
create function public.get_user_workflow_run_count(uid uuid, wid uuid) returns bigint
language sql security definer as $fn$
    select count(*) from public.workflow_runs where user_id = uid and workflow_id = wid and status in ('completed', 'failed')
$fn$;
comment on function public.get_user_workflow_run_count(uuid, uuid) is 'counts runs, more or less';
create function public.get_user_workflow_run_count(uid text) returns bigint
language sql security definer as $fn$ select count(*) from public.workflow_runs where user_id = uid::uuid $fn$;
create function public.complete_workflow_run(run uuid, s text, ms integer default null, snap jsonb default null, err jsonb default null) returns void
language plpgsql security definer as $fn$
begin
    update public.workflow_runs set status = s, completed_at = coalesce(completed_at, now()) where id = run;
end
$fn$;
revoke execute on function public.complete_workflow_run(uuid, text, integer, jsonb, jsonb) from public, anon, authenticated;
create view public.workflow_run_counts as
select user_id, workflow_id, count(*) as runs from public.workflow_runs where status = 'completed' group by 1, 2;
comment on view public.workflow_run_counts is 'old';

insert into auth.users (id) values ('a1000000-0000-4000-8000-000000000001'), ('b1000000-0000-4000-8000-000000000002');
insert into public.workflows (id, user_id)
values ('c1000000-0000-4000-8000-000000000001', 'a1000000-0000-4000-8000-000000000001'),
       ('c1000000-0000-4000-8000-000000000002', 'b1000000-0000-4000-8000-000000000002');
insert into public.workflow_drafts (id, user_id) values ('d1000000-0000-4000-8000-000000000001', 'b1000000-0000-4000-8000-000000000002');
insert into public.workflow_runs (id, user_id, workflow_id, draft_id, status, started_at, completed_at, updated_at) values
    ('00000000-0000-4000-8000-0000000000a1', 'a1000000-0000-4000-8000-000000000001', 'c1000000-0000-4000-8000-000000000001', null, 'completed', now() - interval '2 hours', now() - interval '1 hour', now() - interval '1 hour'),
    ('00000000-0000-4000-8000-0000000000a2', 'a1000000-0000-4000-8000-000000000001', 'c1000000-0000-4000-8000-000000000001', null, 'running', now(), null, now()),
    ('00000000-0000-4000-8000-0000000000b1', 'b1000000-0000-4000-8000-000000000002', 'c1000000-0000-4000-8000-000000000002', null, 'completed', now() - interval '2 hours', now() - interval '1 hour', now() - interval '1 hour'),
    ('00000000-0000-4000-8000-0000000000b2', 'b1000000-0000-4000-8000-000000000002', 'c1000000-0000-4000-8000-000000000002', null, 'running', now(), null, now()),
    ('00000000-0000-4000-8000-0000000000b3', 'b1000000-0000-4000-8000-000000000002', null, 'd1000000-0000-4000-8000-000000000001', 'failed', now() - interval '2 hours', now() - interval '1 hour', now() - interval '1 hour'),
    ('00000000-0000-4000-8000-0000000000b4', 'b1000000-0000-4000-8000-000000000002', 'c1000000-0000-4000-8000-000000000002', null, 'completed', now() - interval '2 hours', null, now() - interval '1 hour'),
    ('00000000-0000-4000-8000-0000000000b5', 'b1000000-0000-4000-8000-000000000002', 'c1000000-0000-4000-8000-000000000002', null, 'running', now() - interval '2 hours', now() - interval '1 hour', now() - interval '1 hour');
