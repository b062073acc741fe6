-- What the trigger needs, in a schema of its own: it comes and goes without the
-- migrations, and a database that a mirror listens to has none of these.
begin;
set local lock_timeout = '2s';
set local statement_timeout = 0;

create schema if not exists run_counter_webhook;
comment on schema run_counter_webhook is 'Run Counter: a signed webhook of workflow_runs. Not for the Data API.';
revoke all on schema run_counter_webhook from public;

do $do$
begin
    if to_regclass({name}) is null then
        raise undefined_table using message = format('there is no table %s', {name}),
            hint = 'Look whether this is the right database; runcounter migrate up makes public.workflow_runs where there is none.';
    end if;
    if to_regprocedure('net.http_post(text,jsonb,jsonb,jsonb,integer)') is null then
        begin
            create extension if not exists pg_net;
        exception when others then
            raise undefined_function using message = 'pg_net is not there, which sends webhooks: ' || sqlerrm,
                hint = 'Enable pg_net under Database, Extensions in Supabase''s dashboard.';
        end;
    end if;
    if to_regclass('vault.decrypted_secrets') is null then
        begin
            create extension if not exists supabase_vault;
        exception when others then
            raise undefined_table using message = 'Vault is not there, which keeps the secret: ' || sqlerrm,
                hint = 'Enable supabase_vault under Database, Extensions in Supabase''s dashboard.';
        end;
    end if;
end
$do$;

create table if not exists run_counter_webhook.settings (
    id                   integer     not null primary key default 1 check (id = 1),
    url                  text        not null,
    timeout_milliseconds integer     not null check (timeout_milliseconds between 1000 and 60000),
    enabled              boolean     not null default true,
    watched              text        not null, -- the table
    columns              text[]      not null, -- what is sent of it
    installed_at         timestamptz not null default now(),
    rotated_at           timestamptz,
    mended               pg_snapshot, -- what an import has read: the calls of these transactions need not arrive
    mended_at            timestamptz  -- when it began; a restored database counts its transactions anew
);

-- What was sent, until it is known what became of it, and for a while after
-- that. The trigger keeps the newest 10,000 of them.
create table if not exists run_counter_webhook.calls (
    seq        bigint      not null generated always as identity primary key,
    request_id bigint      not null, -- pg_net's; a crash of the database numbers them from 1 again
    message_id text        not null,
    at         timestamptz not null default clock_timestamp(),
    changes    integer     not null,
    deletions  integer     not null default 0, -- among the changes
    xact       xid8        not null default pg_current_xact_id(),
    fate       text,                 -- null: not known yet
    detail     text,
    settled_at timestamptz
);

-- The sums of calls and statements that a receiver was never told of, from the
-- moment when that is known until an import has mended them or an operator says
-- that they need none. However many there are, these are a few rows.
create table if not exists run_counter_webhook.losses (
    seq       bigint      not null generated always as identity primary key,
    kind      text        not null, -- a fate, or "statements"
    calls     bigint      not null, -- or statements
    changes   bigint      not null, -- 0 where nothing says how many
    deletions boolean     not null, -- which no import brings
    since     timestamptz not null,
    at        timestamptz not null, -- of the newest
    detail    text,
    xact      xid8        not null default pg_current_xact_id()
);

-- Why a statement was committed without its webhook. The newest 1,000; those
-- before them are in the sums of the losses.
create table if not exists run_counter_webhook.failures (
    seq       bigint      not null generated always as identity primary key,
    at        timestamptz not null default clock_timestamp(),
    operation text        not null,
    code      text        not null, -- SQLSTATE
    message   text        not null,
    changes   bigint      not null default 0, -- 0 where nothing says how many
    xact      xid8        not null default pg_current_xact_id()
);

-- Versions order the changes of a row. They begin at the microseconds since
-- 1970, so that a removal and a new install do not begin
-- below what a mirror has seen. No cache: sessions would draw out of order.
do $do$
begin
    if to_regclass('run_counter_webhook.version') is null then
        execute format('create sequence run_counter_webhook.version as bigint cache 1 start with %s', trunc(extract(epoch from clock_timestamp()) * 1000000));
    end if;
end
$do$;

-- HMAC-SHA256 by PostgreSQL's own sha256: pgcrypto is in another schema on each
-- project, or not there.
create or replace function run_counter_webhook.hmac(p_key bytea, p_message bytea) returns bytea
language plpgsql immutable strict set search_path = pg_catalog, pg_temp
as $fn$
declare
    v_key   text := rpad(encode(case when octet_length(p_key) > 64 then sha256(p_key) else p_key end, 'hex'), 128, '0');
    v_inner bytea := '';
    v_outer bytea := '';
    v_eight bigint; -- bytes at a time: this runs in the user's statement
begin
    for i in 0 .. 7 loop
        v_eight := ('x' || substr(v_key, i * 16 + 1, 16))::bit(64)::bigint;
        v_inner := v_inner || int8send(v_eight # 3906369333256140342); -- 0x36 in each byte
        v_outer := v_outer || int8send(v_eight # 6655295901103053916); -- 0x5c
    end loop;
    return sha256(v_outer || sha256(v_inner || p_message));
end
$fn$;

-- Adds up the sums of losses where they have become many rows. What another
-- session holds stays by itself.
create or replace function run_counter_webhook.add_up() returns void
language sql set search_path = pg_catalog, pg_temp
as $fn$
    with old as (
        delete from run_counter_webhook.losses where seq in (
            select l.seq from run_counter_webhook.losses as l
             where (select count(*) from run_counter_webhook.losses) > 200 order by l.seq limit 150 for update skip locked)
        returning *
    )
    insert into run_counter_webhook.losses (kind, calls, changes, deletions, since, at, detail)
    select kind, sum(calls), sum(changes), deletions, min(since), max(at), (array_agg(detail order by at desc))[1] from old group by kind, deletions
$fn$;

-- Keeps the logs short, and what they say of losses as sums. A transaction that
-- can't see what others have pruned meanwhile leaves it to the next.
create or replace function run_counter_webhook.prune(p_calls_before bigint, p_failures_before bigint) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $fn$
begin
    with gone as (
        delete from run_counter_webhook.calls where seq in (
            select c.seq from run_counter_webhook.calls as c where c.seq <= p_calls_before order by c.seq limit 1024 for update skip locked)
        returning *
    )
    insert into run_counter_webhook.losses (kind, calls, changes, deletions, since, at)
    select 'unseen', count(*), sum(g.changes), g.deletions > 0, min(g.at), max(g.at)
      from gone as g cross join run_counter_webhook.settings as s
     where g.fate is null -- the others' losses are in the sums already
       and (g.deletions > 0 or not coalesce(g.at <= s.mended_at and pg_visible_in_snapshot(g.xact, s.mended), false))
     group by g.deletions > 0;
    with gone as (
        delete from run_counter_webhook.failures where seq in (
            select f.seq from run_counter_webhook.failures as f where f.seq <= p_failures_before order by f.seq limit 64 for update skip locked)
        returning *
    )
    insert into run_counter_webhook.losses (kind, calls, changes, deletions, since, at, detail)
    select 'statements', count(*), sum(changes), operation = 'DELETE', min(at), max(at), (array_agg(code || ' ' || message order by seq desc))[1]
      from gone group by operation = 'DELETE';
    perform run_counter_webhook.add_up();
exception when others then
    null;
end
$fn$;

-- Forgets the losses that are mended, and returns how many calls and statements
-- they were: all of them, since an operator says that the receiver needs
-- nothing; or, of an import, those of the transactions that it has read. It
-- brings no deletion.
create or replace function run_counter_webhook.acknowledge(p_read pg_snapshot default null, p_read_at timestamptz default null) returns bigint
language plpgsql set search_path = pg_catalog, pg_temp
as $fn$
declare
    v_losses   bigint;
    v_failures bigint;
begin
    with gone as (
        delete from run_counter_webhook.losses
         where p_read is null or at <= p_read_at and not deletions and pg_visible_in_snapshot(xact, p_read)
        returning calls
    )
    select coalesce(sum(calls), 0) into v_losses from gone;
    delete from run_counter_webhook.failures
     where p_read is null or at <= p_read_at and operation <> 'DELETE' and pg_visible_in_snapshot(xact, p_read);
    get diagnostics v_failures = row_count;
    delete from run_counter_webhook.calls
     where fate <> 'arrived' and (p_read is null or at <= p_read_at and deletions = 0 and pg_visible_in_snapshot(xact, p_read));
    if p_read is not null then
        update run_counter_webhook.settings set mended = p_read, mended_at = p_read_at;
    end if;
    return v_losses + v_failures;
end
$fn$;

-- One request, signed as https://www.standardwebhooks.com has it: over the
-- bytes that pg_net will send, which are those of the jsonb's text. While a
-- rotation is under way there are two secrets, and a signature by each.
--
-- webhook-proof is another, over id and timestamp alone: by it the receiver
-- knows the sender before it reads the body. The answer is asked to hold no
-- counts, since every SQL role may read net._http_response. Where calls or
-- statements were lost, webhook-lost says how many, and is signed like the proof:
-- a mirror can't know by itself what it was not told.
create or replace function run_counter_webhook.send(p_changes jsonb, p_count integer, p_deletions integer) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $fn$
declare
    v_id         text := 'msg_' || replace(gen_random_uuid()::text, '-', '');
    v_at         text := trunc(extract(epoch from clock_timestamp()))::text;
    v_settings   record;
    v_secret     text;
    v_key        bytea;
    v_signatures text := '';
    v_proofs     text := '';
    v_lost       text; -- how many; null where none
    v_losses     text; -- and signed
    v_signed     bytea;
    v_request    bigint;
    v_seq        bigint;
begin
    select s.url, s.timeout_milliseconds into strict v_settings from run_counter_webhook.settings as s;
    v_signed := convert_to(v_id || '.' || v_at || '.' || p_changes::text, 'UTF8');
    select nullif((select coalesce(sum(l.calls), 0) from run_counter_webhook.losses as l)
                + (select count(*) from (select from run_counter_webhook.failures limit 1000) as f), 0)::text into v_lost;
    v_losses := v_lost;
    for v_secret in
        select d.decrypted_secret from vault.decrypted_secrets as d
         where d.name in ('run_counter_webhook', 'run_counter_webhook_next') order by d.name
    loop
        v_key := decode(substr(v_secret, 7), 'base64');
        v_signatures := v_signatures || ' v1,' || encode(run_counter_webhook.hmac(v_key, v_signed), 'base64');
        v_proofs := v_proofs || ' v1,' || encode(run_counter_webhook.hmac(v_key, convert_to('proof.' || v_id || '.' || v_at, 'UTF8')), 'base64');
        v_losses := v_losses || ' v1,' || encode(run_counter_webhook.hmac(v_key, convert_to('lost.' || v_id || '.' || v_at || '.' || v_lost, 'UTF8')), 'base64');
    end loop;
    if v_signatures = '' then
        raise no_data_found using message = 'the secret run_counter_webhook is not in Vault';
    end if;
    v_request := net.http_post(
        url := v_settings.url, body := p_changes, timeout_milliseconds := v_settings.timeout_milliseconds,
        headers := jsonb_strip_nulls(jsonb_build_object(
            'Content-Type', 'application/json', 'Prefer', 'return=minimal', 'webhook-id', v_id, 'webhook-timestamp', v_at,
            'webhook-signature', substr(v_signatures, 2), 'webhook-proof', substr(v_proofs, 2), 'webhook-lost', v_losses)));
    insert into run_counter_webhook.calls (request_id, message_id, changes, deletions) values (v_request, v_id, p_count, p_deletions) returning seq into v_seq;
    if v_seq % 256 = 0 then -- perhaps no sweep ever comes here
        perform run_counter_webhook.prune(v_seq - 10000, 0);
    end if;
end
$fn$;

-- What only the guard knows of an outcome: whether it is presumed, superseded
-- a presumed one, or is an administrator's decision. Called where the
-- migrations are applied, and a run has ended or had.
create or replace function run_counter_webhook.evidence(
    p_run uuid, p_was text, p_was_at timestamptz, p_status text, p_at timestamptz
) returns text
language plpgsql stable set search_path = pg_catalog, pg_temp
as $fn$
declare
    v_had boolean := p_was_at is not null and coalesce(p_was in ('completed', 'failed', 'cancelled', 'timeout'), false);
    v_has boolean := p_at is not null and coalesce(p_status in ('completed', 'failed', 'cancelled', 'timeout'), false);
begin
    if v_has and exists (select from run_counter.presumed as p where p.run_id = p_run and p.ended_at = p_at and p.status = p_status) then
        return 'presumed';
    elsif not v_had or (p_was, p_was_at) is not distinct from (p_status, p_at) then
        return null;
    elsif exists (select from run_counter.amendments as a where a.run_id = p_run and a.xact = pg_catalog.pg_current_xact_id_if_assigned()) then
        return 'amended';
    elsif v_has and (select s.guard from run_counter.settings as s) then
        return 'superseding';
    end if;
    return null;
end
$fn$;

-- The columns of an alias as one object. What would make a receiver refuse the
-- whole request is left out or shortened as the receiver would do it: an
-- infinite time, error_details of more than 8 KB. Of a statement that changes
-- much at once, none are sent. A text that is too long for an id or a status is
-- cut, and still too long.
create or replace function pg_temp.run_counter_columns(p_alias text, p_columns text[]) returns text
language sql
as $fn$
    select 'json_build_object(' || string_agg(format(case
               when c = 'error_details' then
                   '%1$L, case when v_slim and %2$s.%1$I is not null then json_build_object(''code'', ''too_large'', ''message'','
                   ' ''error_details are not sent of a statement that changes so much at once.'') when octet_length(%2$s.%1$I::text) > 8192 then json_build_object(''code'', ''too_large'', ''message'','
                   ' format(''error_details of %%s bytes is not kept here.'', octet_length(%2$s.%1$I::text))) else to_json(%2$s.%1$I) end'
               when c in ('id', 'user_id', 'workflow_id', 'draft_id', 'status', 'duration_ms') then
                   case when exists (select from pg_attribute as a where a.attrelid = {name}::regclass and a.attname = c and a.atttypid in ('text'::regtype, 'varchar'::regtype))
                        then '%1$L, left(%2$s.%1$I, 257)' else '%1$L, %2$s.%1$I' end
               else '%1$L, case when isfinite(%2$s.%1$I) then %2$s.%1$I end'
           end, c, p_alias), ', ') || ')'
      from unnest(p_columns) as c
$fn$;

-- The trigger's function, made for the columns that the table has. $name$ is
-- replaced below: $row(a)$ by the columns of alias a, $was(a)$ by those that
-- are needed of a row as it was, and so on.
--
-- Its share of the statement is bounded, since a user's statement_timeout is all
-- of it: above 2 MB of error_details those stay behind, above 20,000 rows nothing
-- is told, and after two seconds no more. What is not told is a failure, which is
-- named until it is mended.
--
-- It never fails: the inner block keeps the user's statement from an error, the
-- innermost one from an error in the trace of it. lock_timeout is its own,
-- since a user's statement may have none.
--
-- The record is the row as it is now, not as the statement left it: an AFTER
-- ROW trigger of the application may have changed it since, in a statement that
-- drew its version before this one. A version is drawn while the row is locked.
do $do$
declare
    v_table   regclass := {name}::regclass;
    v_all     text[] := array['id', 'user_id', 'workflow_id', 'draft_id', 'status', 'created_at', 'started_at', 'completed_at', 'updated_at',
                              'duration_ms', 'error_details', {lease}];
    v_was     text[] := array['id', 'user_id', 'workflow_id', 'draft_id', 'status', 'completed_at', 'updated_at', 'duration_ms', 'error_details'];
    v_counts  text[] := array['user_id', 'workflow_id', 'draft_id', 'status', 'started_at', 'completed_at', 'duration_ms'];
    v_life    text[] := array['updated_at', {lease}];
    v_columns text[];
    v_lacks   text;
    v_sql     text;
begin
    select array_agg(c.name order by c.n) into v_columns
      from unnest(v_all) with ordinality as c (name, n)
     where exists (select from pg_attribute as a where a.attrelid = v_table and a.attname = c.name and a.attnum > 0 and not a.attisdropped);
    select string_agg(c, ', ') into v_lacks
      from unnest(array['id', 'user_id', 'workflow_id', 'status', 'completed_at', 'updated_at', {lease}]) as c where c is not null and not c = any (v_columns);
    if v_lacks is not null then
        raise undefined_column using message = format('%s has no column %s', v_table, v_lacks);
    end if;
    v_sql := $sql$
create or replace function run_counter_webhook.notify() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp set lock_timeout = '200ms'
as $fn$
declare
    v_rows    refcursor;
    v_version bigint;
    v_guarded boolean;
    v_began   timestamptz := clock_timestamp();
    v_count   bigint;  -- of rows
    v_slim    boolean; -- without error_details
    v_told    bigint := 0;
    v_unsaid  text;
    v_change  json; -- text until all of a request is there: cheaper to build than jsonb
    v_changes json[] := '{}';
    v_deletes boolean;
    v_deletions integer := 0;
    v_seq     bigint;
begin
    begin
        if not (select s.enabled from run_counter_webhook.settings as s) then
            return null;
        end if;
        if tg_relid <> to_regclass($name$)
           and not exists (select from pg_partition_ancestors(tg_relid) as a where a.relid = to_regclass($name$)) then
            return null; -- it was a partition once, or the table that was watched
        end if;
        if tg_op = 'INSERT' then
            select count(*), $size$ into v_count, v_slim from new_rows as x;
        else
            select count(*), $size$ into v_count, v_slim from old_rows as x;
            if tg_op = 'UPDATE' and not v_slim then
                select $size$ into v_slim from new_rows as x;
            end if;
        end if;
        if v_count > 20000 then
            if tg_op = 'UPDATE' then
                if not exists (select from new_rows as n full join old_rows as o on o.id = n.id where n.id is null or o.id is null or $counts$) then
                    return null;
                end if;
            end if;
            raise program_limit_exceeded using message = format('too large: %s rows', v_count);
        end if;
        v_version := nextval('run_counter_webhook.version');
        v_guarded := to_regclass('run_counter.presumed') is not null;
        if tg_op = 'INSERT' then
            open v_rows for
                select json_build_object('type', tg_op, 'schema', $names$, 'version', v_version,
                                         'record', case when r.id is null then $row(n)$ else $row(r)$ end, 'old_record', null), false
                  from new_rows as n left join $table$ as r on r.id = n.id
                 where coalesce(r.status, n.status) is not null;
        elsif tg_op = 'UPDATE' then -- whose id was changed is, for a mirror, another run
            open v_rows for
                select json_build_object('type', case when n.id is null then 'DELETE' when o.id is null then 'INSERT' else 'UPDATE' end,
                                         'schema', $names$, 'version', v_version,
                                         'record', case when r.id is not null then $row(r)$ when n.id is not null then $row(n)$ end,
                                         'old_record', case when n.id is null or o.status is not null then $was(o)$ end,
                                         'evidence', $evidence$), n.id is null
                  from new_rows as n full join old_rows as o on o.id = n.id left join $table$ as r on r.id = n.id
                 where (n.id is null or coalesce(r.status, n.status) is not null)
                   and ($counts$ or $details$ or $life$);
        else
            open v_rows for
                select json_build_object('type', tg_op, 'schema', $names$, 'version', v_version,
                                         'record', null, 'old_record', $was(o)$), true
                  from old_rows as o;
        end if;
        loop
            fetch v_rows into v_change, v_deletes;
            exit when not found;
            if clock_timestamp() > v_began + interval '2 seconds' then
                v_unsaid := 'too large: of its ' || v_count || ' rows ' || v_told || ' were told in two seconds';
                exit;
            end if;
            v_told := v_told + 1;
            v_changes := array_append(v_changes, v_change);
            v_deletions := v_deletions + v_deletes::integer;
            if cardinality(v_changes) = 500 then
                perform run_counter_webhook.send(to_json(v_changes)::jsonb, 500, v_deletions);
                v_changes := '{}';
                v_deletions := 0;
            end if;
        end loop;
        close v_rows;
        if cardinality(v_changes) > 0 then
            perform run_counter_webhook.send(to_json(v_changes)::jsonb, cardinality(v_changes), v_deletions);
        end if;
        if v_unsaid is not null then
            insert into run_counter_webhook.failures (operation, code, message, changes) values (tg_op, '54000', v_unsaid, v_count - v_told);
        end if;
    exception when others then
        begin
            insert into run_counter_webhook.failures (operation, code, message, changes) values (tg_op, sqlstate, left(sqlerrm, 500), coalesce(v_count, 0)) returning seq into v_seq;
            perform run_counter_webhook.prune(0, v_seq - 1000);
        exception when others then
            null;
        end;
    end;
    return null;
end
$fn$
$sql$;
    v_sql := replace(v_sql, '$table$', {name});
    v_sql := replace(v_sql, '$name$', quote_literal({name}));
    v_sql := replace(v_sql, '$names$', (select format('%L, ''table'', %L', n.nspname, c.relname) from pg_class as c join pg_namespace as n on n.oid = c.relnamespace where c.oid = v_table));
    -- What run_counter has marked are runs whose ids are UUIDs.
    v_sql := replace(v_sql, '$evidence$', case when (select a.atttypid = 'uuid'::regtype from pg_attribute as a where a.attrelid = v_table and a.attname = 'id')
        then 'case when v_guarded and coalesce(o.completed_at, r.completed_at) is not null '
             'then run_counter_webhook.evidence(n.id, o.status, o.completed_at, r.status, r.completed_at) end'
        else 'null' end);
    v_sql := replace(v_sql, '$row(n)$', pg_temp.run_counter_columns('n', v_columns));
    v_sql := replace(v_sql, '$row(r)$', pg_temp.run_counter_columns('r', v_columns));
    v_sql := replace(v_sql, '$was(o)$', pg_temp.run_counter_columns('o', array(select c from unnest(v_columns) as c where c = any (v_was))));
    v_sql := replace(v_sql, '$counts$', (select string_agg(format('n.%1$I is distinct from o.%1$I', c), ' or ') from unnest(v_counts) as c where c = any (v_columns)));
    -- Signs of life: by them a mirror knows a silent run from one that works. A
    -- heartbeat of every second is told once a minute.
    v_sql := replace(v_sql, '$life$', (select string_agg(format('date_trunc(''minute'', n.%1$I) is distinct from date_trunc(''minute'', o.%1$I)', c), ' or ')
                                        from unnest(v_life) as c where c = any (v_columns)));
    v_sql := replace(v_sql, '$details$', case when 'error_details' = any (v_columns)
        then 'not v_slim and n.completed_at is not null and n.error_details::text is distinct from o.error_details::text' else 'false' end);
    -- As they are stored: nothing is fetched and unpacked to know it.
    v_sql := replace(v_sql, '$size$', case when 'error_details' = any (v_columns) then 'coalesce(sum(pg_column_size(x.error_details)), 0) > 2097152' else 'false' end);
    execute v_sql;

    insert into run_counter_webhook.settings as s (url, timeout_milliseconds, watched, columns)
    values ({url}, {timeout}, (select format('%I.%I', n.nspname, c.relname) from pg_class as c join pg_namespace as n on n.oid = c.relnamespace where c.oid = v_table), v_columns)
        on conflict (id) do update
       set url = excluded.url, timeout_milliseconds = excluded.timeout_milliseconds, watched = excluded.watched,
           columns = excluded.columns, installed_at = now(), enabled = true;
end
$do$;

-- Made here, so that it stands in no statement and in no log.
do $do$
begin
    if not exists (select from vault.secrets where name = 'run_counter_webhook') then
        perform vault.create_secret('whsec_' || encode(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()), 'base64'),
                                    'run_counter_webhook', 'Run Counter signs its webhooks with it. runcounter webhook rotate changes it.');
    end if;
end
$do$;

revoke all on all tables in schema run_counter_webhook from public;
revoke all on all sequences in schema run_counter_webhook from public;
revoke all on all functions in schema run_counter_webhook from public;
do $do$
begin
    if to_regrole('service_role') is not null then
        grant usage on schema run_counter_webhook to service_role;
        grant select on run_counter_webhook.settings to service_role;
        grant select, insert, update, delete on run_counter_webhook.calls, run_counter_webhook.losses, run_counter_webhook.failures to service_role;
        grant update (mended, mended_at) on run_counter_webhook.settings to service_role;
        grant execute on function run_counter_webhook.add_up(), run_counter_webhook.acknowledge(pg_snapshot, timestamptz) to service_role;
    end if;
end
$do$;
commit;

-- The triggers take a short lock on the table: where it is not had within two
-- seconds, this ends with an error, and can be run again.
begin;
set local lock_timeout = '2s';
-- A statement fires those of the table that it names alone: so each partition has
-- them too, where this role may give it any.
do $do$
declare
    v_table text;
begin
    for v_table in
        select format('%I.%I', n.nspname, c.relname)
          from (select {name}::regclass as relid, 0 as level union select t.relid, t.level from pg_partition_tree({name}) as t) as t
          join pg_class as c on c.oid = t.relid
          join pg_namespace as n on n.oid = c.relnamespace
         where t.level = 0 or c.relkind in ('r', 'p') and has_table_privilege(c.oid, 'trigger')
         order by t.level, c.oid
    loop
        execute 'create or replace trigger run_counter_webhook_insert after insert on ' || v_table
            || ' referencing new table as new_rows for each statement execute function run_counter_webhook.notify()';
        execute 'create or replace trigger run_counter_webhook_update after update on ' || v_table
            || ' referencing old table as old_rows new table as new_rows for each statement execute function run_counter_webhook.notify()';
        execute 'create or replace trigger run_counter_webhook_delete after delete on ' || v_table
            || ' referencing old table as old_rows for each statement execute function run_counter_webhook.notify()';
    end loop;
end
$do$;
commit;
