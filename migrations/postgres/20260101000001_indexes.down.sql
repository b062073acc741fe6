set local lock_timeout = '2s';

-- Of whatever table they are.
do $do$
declare
    v_index record;
begin
    for v_index in
        select c.oid::regclass::text as name from pg_class as c
         where c.relkind in ('i', 'I') and not c.relispartition
           and c.relname in ('run_counter_ended', 'run_counter_ended_draft', 'run_counter_open', 'run_counter_odd',
                             'run_counter_user_windows', 'run_counter_user_draft_windows', 'run_counter_workflow_windows', 'run_counter_draft_windows')
           and coalesce(obj_description(c.oid, 'pg_class'), 'Run Counter: ') like 'Run Counter: %' -- none where it was not finished
    loop
        execute format('drop index %s', v_index.name);
    end loop;
end
$do$;
