set local lock_timeout = '2s';

drop trigger if exists zzzy_run_counter_hardening on public.workflow_runs;
drop trigger if exists zzzy_run_counter_hardening_delete on public.workflow_runs;
drop trigger if exists zzzy_run_counter_hardening_truncate on public.workflow_runs;
drop trigger if exists zzzz_run_counter_guard on public.workflow_runs;
drop trigger if exists zzzz_run_counter_guard_insert on public.workflow_runs;
drop trigger if exists zzzz_run_counter_ledger_insert on public.workflow_runs;
drop trigger if exists zzzz_run_counter_ledger_update on public.workflow_runs;
drop trigger if exists zzzz_run_counter_ledger_delete on public.workflow_runs;
drop trigger if exists zzzz_run_counter_ledger_truncate on public.workflow_runs;

drop table if exists run_counter.counts, run_counter.ledger, run_counter.presumed, run_counter.amendments, run_counter.settings, run_counter.audits_due;

drop function if exists run_counter.guard();
drop function if exists run_counter.end_of(uuid, timestamptz, timestamptz, timestamptz);
drop function if exists run_counter.duration_of(timestamptz, timestamptz);
drop function if exists run_counter.harden();
drop function if exists run_counter.harden_delete();
drop function if exists run_counter.is_presumed(uuid, timestamptz);
drop function if exists run_counter.ledger_insert();
drop function if exists run_counter.ledger_update();
drop function if exists run_counter.ledger_delete();
drop function if exists run_counter.ledger_presumed();
drop function if exists run_counter.ledger_truncate();
