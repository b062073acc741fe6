-- What a new project's database has, as far as it concerns workflow_runs.
alter schema public owner to owner;
grant usage on schema public to anon, authenticated, service_role;

alter default privileges for role owner in schema public grant all on tables to anon, authenticated, service_role;
alter default privileges for role owner in schema public grant all on functions to anon, authenticated, service_role;
alter default privileges for role owner in schema public grant all on sequences to anon, authenticated, service_role;

create schema extensions authorization owner;
grant usage on schema extensions to anon, authenticated, service_role;
create schema graphql_public authorization supabase_admin;
grant usage on schema graphql_public to anon, authenticated, service_role, owner;

create schema auth authorization supabase_admin;
grant usage on schema auth to anon, authenticated, service_role, owner;
grant all on schema auth to supabase_auth_admin;

create table auth.users (
    instance_id        uuid,
    id                 uuid not null primary key,
    aud                varchar(255),
    role               varchar(255),
    email              varchar(255),
    raw_app_meta_data  jsonb,
    raw_user_meta_data jsonb,
    created_at         timestamptz,
    updated_at         timestamptz,
    is_anonymous       boolean not null default false
);
alter table auth.users owner to supabase_auth_admin;
alter table auth.users enable row level security;
grant all on auth.users to owner;

-- The older setting comes first, the newer one holds the whole token.
create function auth.uid() returns uuid
language sql stable
as $fn$
  select
  coalesce(
    nullif(current_setting('request.jwt.claim.sub', true), ''),
    (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub')
  )::uuid
$fn$;

create function auth.role() returns text
language sql stable
as $fn$
  select
  coalesce(
    nullif(current_setting('request.jwt.claim.role', true), ''),
    (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'role')
  )::text
$fn$;

create function auth.jwt() returns jsonb
language sql stable
as $fn$
  select
    coalesce(
        nullif(current_setting('request.jwt.claim', true), ''),
        nullif(current_setting('request.jwt.claims', true), '')
    )::jsonb
$fn$;

alter function auth.uid() owner to supabase_auth_admin;
alter function auth.role() owner to supabase_auth_admin;
alter function auth.jwt() owner to supabase_auth_admin;
