-- Two conditions, and a comment without = and <.
select id from runs where status = 'completed' and ended_at <= now() and coalesce(kept, false);
