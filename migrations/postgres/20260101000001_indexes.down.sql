set local lock_timeout = '2s';
drop index if exists public.run_counter_ended;
drop index if exists public.run_counter_ended_draft;
drop index if exists public.run_counter_open;
drop index if exists public.run_counter_odd;
