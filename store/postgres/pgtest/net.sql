-- What extension pg_net 0.20.4 puts into a database, as far as its users can
-- tell: names, columns, defaults and privileges are its own, the bodies are
-- ours. Its worker is in Go, and nothing here wakes it: it looks for itself.
begin;
create schema net;
grant usage on schema net to public;

create domain net.http_method as text check (lower(value) in ('get', 'post', 'delete'));

-- Unlogged, and so are the sequences behind them: a crash empties both tables
-- and numbers requests from 1 again.
create unlogged table net.http_request_queue (
    id                   bigserial,
    method               net.http_method not null,
    url                  text not null,
    headers              jsonb,
    body                 bytea,
    timeout_milliseconds integer not null
);
create unlogged table net._http_response (
    id           bigint,
    status_code  integer,
    content_type text,
    headers      jsonb,
    content      text,
    timed_out    boolean,
    error_msg    text,
    created      timestamptz not null default now()
);
create index on net._http_response (created);

-- Every role may read both, also where another made the request.
grant all on all tables in schema net to public;
grant all on all sequences in schema net to public;

create function net._urlencode_string(string varchar) returns text
language sql immutable
as $fn$
    select coalesce(string_agg(case when chr(c) ~ '[A-Za-z0-9._~-]' and c < 128 then chr(c) else '%' || upper(lpad(to_hex(c), 2, '0')) end, '' order by i), '')
      from (select i, get_byte(convert_to(string, 'UTF8'), i) as c from generate_series(0, octet_length(convert_to(string, 'UTF8')) - 1) as i) as bytes
     where string is not null
$fn$;

create function net._encode_url_with_params_array(url text, params_array text[]) returns text
language plpgsql immutable
as $fn$
begin
    if url is null or params_array is null then
        return null;
    end if;
    if url !~* '^[a-z][a-z0-9+.-]*://[^/?#]' then
        raise exception 'invalid URL "%": %', url, case when url ~ '://' then 'No host part in the URL' else 'Bad scheme' end;
    end if;
    if url ~ '^[^/]*//[^/?#]*$' then
        url := url || '/';
    end if;
    if params_array <> '{}' then
        url := url || case when url ~ '[?]' then '&' else '?' end || array_to_string(params_array, '&');
    end if;
    return url;
end
$fn$;

create function net.wake() returns void language plpgsql as $fn$ begin null; end $fn$;
create function net.worker_restart() returns boolean language sql as $fn$ select true $fn$;

-- The real one asks for backend_type alone, which a client can't have; the
-- application_name is that of the real worker. There is one for each database
-- here, and one for a server there.
create function net.check_worker_is_up() returns void
language plpgsql
as $fn$
begin
    if not exists (select from pg_stat_activity where application_name like 'pg_net %' and datname = current_database()) then
        raise exception 'the pg_net background worker is not up'
            using detail = 'the pg_net background worker is down due to an internal error and cannot process requests',
                  hint = 'make sure that you didn''t modify any of pg_net internal tables';
    end if;
end
$fn$;

-- With the rights of who calls, as since 0.12.
create function net.http_post(
    url                  text,
    body                 jsonb default '{}'::jsonb,
    params               jsonb default '{}'::jsonb,
    headers              jsonb default '{"Content-Type": "application/json"}'::jsonb,
    timeout_milliseconds integer default 5000
) returns bigint
language plpgsql
as $fn$
declare
    content_type text := (select h.value from jsonb_each_text(coalesce(headers, '{}')) as h where lower(h.key) = 'content-type' limit 1);
    request_id   bigint;
begin
    if content_type is null then
        headers := headers || '{"Content-Type": "application/json"}';
    elsif content_type <> 'application/json' then
        raise exception 'Content-Type header must be "application/json"';
    end if;
    insert into net.http_request_queue (method, url, headers, body, timeout_milliseconds)
    values ('POST',
            net._encode_url_with_params_array(url, array(select net._urlencode_string(p.key) || '=' || net._urlencode_string(p.value) from jsonb_each_text(params) as p)),
            headers, convert_to(body::text, 'UTF8'), timeout_milliseconds)
    returning id into request_id;
    perform net.wake();
    return request_id;
end
$fn$;

create function net.http_get(
    url                  text,
    params               jsonb default '{}'::jsonb,
    headers              jsonb default '{}'::jsonb,
    timeout_milliseconds integer default 5000
) returns bigint
language plpgsql
as $fn$
declare
    request_id bigint;
begin
    insert into net.http_request_queue (method, url, headers, timeout_milliseconds)
    values ('GET',
            net._encode_url_with_params_array(url, array(select net._urlencode_string(p.key) || '=' || net._urlencode_string(p.value) from jsonb_each_text(params) as p)),
            headers, timeout_milliseconds)
    returning id into request_id;
    perform net.wake();
    return request_id;
end
$fn$;
