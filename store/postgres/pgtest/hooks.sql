-- What Supabase's own database webhooks consist of, as far as their users can
-- tell: names, columns, arguments and the shape of what is sent are its own,
-- the bodies are ours.
create schema if not exists supabase_functions;
create table if not exists supabase_functions.hooks (
    id            bigserial primary key,
    hook_table_id integer     not null,
    hook_name     text        not null,
    created_at    timestamptz not null default now(),
    request_id    bigint
);
create index if not exists supabase_functions_hooks_request_id_idx on supabase_functions.hooks (request_id);
create index if not exists supabase_functions_hooks_h_table_id_h_name_idx on supabase_functions.hooks (hook_table_id, hook_name);

create or replace function supabase_functions.http_request() returns trigger
language plpgsql security definer set search_path = 'supabase_functions'
as $fn$
declare
    v_request bigint;
begin
    if tg_argv[1] = 'GET' then
        v_request := net.http_get(tg_argv[0], coalesce(nullif(tg_argv[3], 'null'), '{}')::jsonb, coalesce(nullif(tg_argv[2], 'null'), '{}')::jsonb, coalesce(tg_argv[4], '1000')::integer);
    elsif tg_argv[1] = 'POST' then
        v_request := net.http_post(
            tg_argv[0],
            jsonb_build_object('old_record', old, 'record', new, 'type', tg_op, 'table', tg_table_name, 'schema', tg_table_schema),
            coalesce(nullif(tg_argv[3], 'null'), '{}')::jsonb, coalesce(nullif(tg_argv[2], 'null'), '{"Content-Type": "application/json"}')::jsonb,
            coalesce(tg_argv[4], '1000')::integer);
    else
        raise exception 'method argument % is invalid', tg_argv[1];
    end if;
    insert into supabase_functions.hooks (hook_table_id, hook_name, request_id) values (tg_relid, tg_name, v_request);
    return new;
end
$fn$;
grant usage on schema supabase_functions to public;
