drop index if exists workflow_runs_presumed;
