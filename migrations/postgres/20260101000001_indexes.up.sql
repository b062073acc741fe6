-- Runcounter's own "migrate up" has built these concurrently before it comes
-- here. Pasted, they are built at once: writers of a table with a million rows
-- wait for a second or two.
set local lock_timeout = '2s';

-- Answer last_run_at and what an audit counts, from the index alone.
select run_counter.define($sql$
create index if not exists run_counter_ended on public.workflow_runs (user_id, workflow_id, completed_at desc) include (status) where completed_at is not null and status in ('completed', 'failed', 'cancelled', 'timeout')/*draft*/ and draft_id is null/*end*/;
/*draft*/create index if not exists run_counter_ended_draft on public.workflow_runs (user_id, draft_id, completed_at desc) include (status) where completed_at is not null and status in ('completed', 'failed', 'cancelled', 'timeout') and draft_id is not null;/*end*/
$sql$);

-- The slots that are taken, and what a sweep looks through.
select run_counter.define($sql$
create index if not exists run_counter_open on public.workflow_runs (user_id, workflow_id/*draft*/, draft_id/*end*/) where completed_at is null or status is null or status not in ('completed', 'failed', 'cancelled', 'timeout');
$sql$);

-- What is not counted, or looks wrong, and is reported.
select run_counter.define($sql$
create index if not exists run_counter_odd on public.workflow_runs (id) where user_id is null or workflow_id is null/*draft*/ and draft_id is null/*end*/ or status is null or status not in ('pending', 'running', 'cancelling', 'completed', 'failed', 'cancelled', 'timeout') or completed_at < started_at;
$sql$);
