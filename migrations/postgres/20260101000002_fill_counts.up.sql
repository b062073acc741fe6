-- The counts of the runs that are there already. The triggers work since an
-- earlier transaction, so in any snapshot the ledger holds what the runs of
-- that snapshot were changed by: one statement deletes the ledger rows that it
-- sees, counts the runs that it sees, and sets the counts. Writers go on; the
-- lock holds off folds and recounts alone.
set local lock_timeout = '2s';
set local statement_timeout = 0;

lock table run_counter.counts in share row exclusive mode;

select run_counter.define($sql$
with gone as (
    delete from run_counter.ledger
), actual as (
    select r.user_id,
           case when r.draft_id is null then 'workflow' else 'draft' end collate "C" as kind,
           coalesce(r.draft_id, r.workflow_id) as ref_id,
           count(*) filter (where r.status = 'completed') as completed,
           count(*) filter (where r.status = 'failed') as failed,
           count(*) filter (where r.status = 'cancelled') as cancelled,
           count(*) filter (where r.status = 'timeout') as timeout,
           count(p.run_id) filter (where r.status = 'completed') as presumed_completed,
           count(p.run_id) filter (where r.status = 'failed') as presumed_failed,
           count(p.run_id) filter (where r.status = 'cancelled') as presumed_cancelled,
           count(p.run_id) filter (where r.status = 'timeout') as presumed_timeout
      from public.workflow_runs as r
      left join run_counter.presumed as p on p.run_id = r.id and p.ended_at = r.completed_at and p.status = r.status
     where r.completed_at is not null and r.status in ('completed', 'failed', 'cancelled', 'timeout')
       and r.user_id is not null and coalesce(r.draft_id, r.workflow_id) is not null
     group by 1, 2, 3
)
insert into run_counter.counts as c
select user_id, kind, ref_id, coalesce(a.completed, 0), coalesce(a.failed, 0), coalesce(a.cancelled, 0), coalesce(a.timeout, 0),
       coalesce(a.presumed_completed, 0), coalesce(a.presumed_failed, 0), coalesce(a.presumed_cancelled, 0), coalesce(a.presumed_timeout, 0)
  from actual as a
  full join (select user_id, kind, ref_id from run_counter.counts) as known using (user_id, kind, ref_id)
    on conflict (user_id, kind, ref_id) do update
   set completed = excluded.completed, failed = excluded.failed, cancelled = excluded.cancelled, timeout = excluded.timeout,
       presumed_completed = excluded.presumed_completed, presumed_failed = excluded.presumed_failed,
       presumed_cancelled = excluded.presumed_cancelled, presumed_timeout = excluded.presumed_timeout
$sql$);
