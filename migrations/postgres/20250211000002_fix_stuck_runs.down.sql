set local lock_timeout = '2s';
drop table if exists run_counter.recounts, run_counter.dead_letters, run_counter.activity, run_counter.idempotency_keys, run_counter.ahead, run_counter.grants, run_counter.limit_marks, run_counter.notices;
