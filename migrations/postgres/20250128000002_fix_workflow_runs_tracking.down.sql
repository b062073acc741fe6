set local lock_timeout = '2s';

drop trigger if exists zzzy_run_counter_hardening on public.workflow_runs;
drop trigger if exists zzzy_run_counter_hardening_delete on public.workflow_runs;
drop trigger if exists zzzy_run_counter_hardening_truncate on public.workflow_runs;
drop trigger if exists zzzz_run_counter_guard on public.workflow_runs;
drop trigger if exists zzzz_run_counter_guard_yields on public.workflow_runs;
drop trigger if exists zzzz_run_counter_guard_insert on public.workflow_runs;
drop trigger if exists zzzz_run_counter_ledger_insert on public.workflow_runs;
drop trigger if exists zzzz_run_counter_ledger_update on public.workflow_runs;
drop trigger if exists zzzz_run_counter_ledger_delete on public.workflow_runs;
drop trigger if exists zzzz_run_counter_ledger_truncate on public.workflow_runs;

drop table if exists run_counter.keys, run_counter.counts, run_counter.ledger, run_counter.presumed, run_counter.amendments, run_counter.repairs, run_counter.settings, run_counter.audits_due;

do $do$
declare
    o record;
begin
    for o in
        select p.oid::regprocedure::text as name from pg_proc as p
         where p.pronamespace = to_regnamespace('run_counter') and p.proname in ('guard', 'give_way', 'end_of', 'duration_of', 'harden', 'harden_delete', 'is_presumed', 'ledger_insert', 'ledger_update', 'ledger_delete', 'ledger_presumed', 'ledger_truncate')
    loop
        execute format('drop routine %s', o.name);
    end loop;
end
$do$;
