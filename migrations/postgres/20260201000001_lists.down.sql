drop index if exists run_counter.presumed_ended_at;
