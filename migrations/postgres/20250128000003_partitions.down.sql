set local lock_timeout = '2s';

-- On what is a partition, and on what was one.
do $do$
declare
    v_trigger record;
begin
    for v_trigger in
        select t.tgname, t.tgrelid::regclass::text as name
          from pg_trigger as t
         where t.tgfoid = to_regproc('run_counter.ledger_truncate_partition')
            or t.tgname = 'zzzy_run_counter_hardening_truncate' and t.tgfoid = to_regproc('run_counter.harden')
               and not exists (select from pg_trigger as o
                                where o.tgrelid = t.tgrelid and o.tgname = 'zzzz_run_counter_ledger_truncate' and o.tgfoid = to_regproc('run_counter.ledger_truncate'))
    loop
        execute format('drop trigger %I on %s', v_trigger.tgname, v_trigger.name);
    end loop;
end
$do$;

drop table if exists run_counter.partitions;
drop function if exists run_counter.ledger_truncate_partition();
drop function if exists run_counter.settle_partitions(oid[]);
