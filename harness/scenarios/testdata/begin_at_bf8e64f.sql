-- Begin as it was at bf8e64f: it reads the counted runs by one statement, and the active
-- ones by the next. A run that ends in between is in neither.
create or replace function run_counter.begin_run_was(
    p_run_id uuid, p_user_id uuid, p_workflow_id uuid, p_draft_id uuid, p_limit bigint, p_idempotency_key text, p_now timestamptz
) returns table (id_of_run uuid, created boolean, limit_reached boolean, counted bigint, active bigint)
language plpgsql set search_path = ''
as $fn$
declare
    v_kind  text := case when p_draft_id is null then 'workflow' else 'draft' end;
    v_ref   uuid := coalesce(p_draft_id, p_workflow_id);
    v_known uuid;
    v_run   record;
begin
    if p_user_id is null or v_ref is null then
        raise invalid_parameter_value using message = 'a run needs a user and a workflow or draft';
    elsif p_draft_id is not null and not (select s.draft_id from run_counter.settings as s) then
        raise invalid_parameter_value using message = 'the table workflow_runs has no column draft_id',
            hint = 'If it has one by now, run runcounter migrate up again.';
    end if;
    if p_limit is not null then
        perform run_counter.lock_key(p_user_id, v_kind, v_ref);
    end if;
    for i in 1..10 loop
        v_known := null;
        if p_idempotency_key is not null then
            select k.run_id into v_known from run_counter.idempotency_keys as k
             where k.user_id = p_user_id and k.idempotency_key = p_idempotency_key;
        end if;
        id_of_run := coalesce(v_known, p_run_id);
        select r.user_id, case when r.draft_id is null then 'workflow' else 'draft' end as kind, coalesce(r.draft_id, r.workflow_id) as ref_id
          into v_run
          from public.workflow_runs as r where r.id = id_of_run;
        created := not found;
        if created and v_known is not null then
            raise unique_violation using
                message = pg_catalog.format('run %s was deleted, and a deleted run is never brought back; begin with another id or idempotency key', v_known);
        elsif not created and (v_run.user_id, v_run.kind, v_run.ref_id) is distinct from (p_user_id, v_kind, v_ref) then
            raise unique_violation using
                message = pg_catalog.format('run %s is that of another user, workflow or draft; begin with another id or idempotency key', id_of_run);
        end if;
        counted := run_counter.count_of(p_user_id, v_kind, v_ref);
        select count(*) into active from public.workflow_runs as r
         where r.user_id = p_user_id and coalesce(r.draft_id, r.workflow_id) = v_ref and (r.draft_id is not null) = (p_draft_id is not null)
           and (r.completed_at is null or r.status is null or r.status not in ('completed', 'failed', 'cancelled', 'timeout'));
        limit_reached := created and coalesce(counted + active >= p_limit, false);
        if limit_reached or not created then
            created := false;
            return next;
            return;
        end if;
        if p_idempotency_key is not null then
            insert into run_counter.idempotency_keys (user_id, idempotency_key, run_id)
            values (p_user_id, p_idempotency_key, id_of_run) on conflict do nothing;
            continue when not found; -- another call was faster: find its run
        end if;
        insert into public.workflow_runs as r (id, user_id, workflow_id/*draft*/, draft_id/*end*/, status, created_at, updated_at)
        values (id_of_run, p_user_id, p_workflow_id/*draft*/, p_draft_id/*end*/, 'pending', p_now, p_now) on conflict do nothing;
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
$fn$;

-- The one that there is has more arguments, all with defaults.
drop function public.begin_workflow_run(uuid, uuid, uuid, integer, text, uuid, integer, timestamptz);
create or replace function public.begin_workflow_run(
    p_user_id uuid, p_workflow_id uuid default null, p_draft_id uuid default null,
    p_limit integer default null, p_idempotency_key text default null, p_run_id uuid default null
) returns uuid
language plpgsql set search_path = ''
as $fn$
begin
    return (select case when not b.limit_reached then b.id_of_run end
              from run_counter.begin_run_was(coalesce(p_run_id, pg_catalog.gen_random_uuid()), p_user_id, p_workflow_id, p_draft_id,
                                         p_limit, p_idempotency_key, pg_catalog.now()) as b);
end
$fn$;
