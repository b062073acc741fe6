set local lock_timeout = '2s';

-- On whatever table they are; its partitions lose theirs with it.
do $do$
declare
    v_trigger record;
begin
    for v_trigger in
        select t.tgname, t.tgrelid::regclass::text as name
          from pg_trigger as t
          join pg_proc as p on p.oid = t.tgfoid
          join pg_class as c on c.oid = t.tgrelid
         where p.pronamespace = to_regnamespace('run_counter') and c.relnamespace <> p.pronamespace
           and not t.tgisinternal and t.tgparentid = 0
    loop
        execute format('drop trigger %I on %s', v_trigger.tgname, v_trigger.name);
    end loop;
end
$do$;

drop table if exists run_counter.keys, run_counter.counts, run_counter.totals, run_counter.ledger, run_counter.presumed, run_counter.amendments, run_counter.repairs, run_counter.columns, run_counter.settings, run_counter.audits_due;

do $do$
declare
    o record;
begin
    for o in
        select p.oid::regprocedure::text as name from pg_proc as p
         where p.pronamespace = to_regnamespace('run_counter') and p.proname in ('guard', 'forget', 'give_way', 'rules', 'read_rules', 'settle_yields', 'reading', 'writing', 'looking', 'detach', 'end_of', 'duration_of', 'harden', 'harden_delete', 'is_presumed', 'ledger_insert', 'ledger_update', 'ledger_delete', 'ledger_presumed', 'ledger_truncate')
    loop
        execute format('drop routine %s', o.name);
    end loop;
end
$do$;

drop type if exists run_counter.counted;
drop type if exists run_counter.seen;
