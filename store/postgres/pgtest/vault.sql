-- What extension supabase_vault 0.3.1 puts into a database: names, columns,
-- defaults and privileges are its own, the bodies are ours. Nothing here is
-- encrypted: a secret is scrambled, so that it can't be found in the table by
-- looking for it, and tampering is noticed.
begin;
create schema vault;

create function vault._crypto_aead_det_noncegen() returns bytea
language sql volatile
as $fn$ select decode(replace(gen_random_uuid()::text, '-', ''), 'hex') $fn$;

-- What comes first is sixteen bytes that tell whether anybody changed the rest,
-- which stands there backwards.
create function vault._crypto_aead_det_encrypt(message bytea, additional bytea, key_id bigint, context bytea default 'pgsodium', nonce bytea default null) returns bytea
language sql immutable security definer set search_path = ''
as $fn$
    select substr(sha256(message || additional || coalesce(nonce, '')), 1, 16) || decode(reverse(encode(message, 'hex')), 'hex')
$fn$;

create function vault._crypto_aead_det_decrypt(message bytea, additional bytea, key_id bigint, context bytea default 'pgsodium', nonce bytea default null) returns bytea
language plpgsql immutable security definer set search_path = ''
as $fn$
declare
    plain bytea := decode(reverse(encode(substr(message, 17), 'hex')), 'hex');
begin
    if substr(message, 1, 16) is distinct from substr(sha256(plain || additional || coalesce(nonce, '')), 1, 16) then
        raise exception 'pgsodium_crypto_aead_det_decrypt_by_id: invalid ciphertext' using errcode = '22000';
    end if;
    return plain;
end
$fn$;

create table vault.secrets (
    id          uuid primary key default gen_random_uuid(),
    name        text,
    description text not null default '',
    secret      text not null,
    key_id      uuid,
    nonce       bytea default vault._crypto_aead_det_noncegen(),
    created_at  timestamptz not null default current_timestamp,
    updated_at  timestamptz not null default current_timestamp
);
create unique index on vault.secrets (name) where name is not null;

create view vault.decrypted_secrets as
select s.id, s.name, s.description, s.secret,
       convert_from(vault._crypto_aead_det_decrypt(decode(s.secret, 'base64'), convert_to(s.id::text, 'UTF8'), 0, 'pgsodium', s.nonce), 'UTF8') as decrypted_secret,
       s.key_id, s.nonce, s.created_at, s.updated_at
  from vault.secrets as s;

create function vault.create_secret(new_secret text, new_name text default null, new_description text default '', new_key_id uuid default null) returns uuid
language plpgsql security definer set search_path = ''
as $fn$
declare
    new_id    uuid := pg_catalog.gen_random_uuid();
    new_nonce bytea := vault._crypto_aead_det_noncegen();
begin
    insert into vault.secrets (id, name, description, nonce, secret)
    values (new_id, new_name, new_description, new_nonce,
            encode(vault._crypto_aead_det_encrypt(convert_to(new_secret, 'UTF8'), convert_to(new_id::text, 'UTF8'), 0, 'pgsodium', new_nonce), 'base64'));
    return new_id;
end
$fn$;

create function vault.update_secret(secret_id uuid, new_secret text default null, new_name text default null, new_description text default null, new_key_id uuid default null) returns void
language plpgsql security definer set search_path = ''
as $fn$
begin
    update vault.secrets as s
       set secret = coalesce(encode(vault._crypto_aead_det_encrypt(convert_to(new_secret, 'UTF8'), convert_to(s.id::text, 'UTF8'), 0, 'pgsodium', s.nonce), 'base64'), s.secret),
           name = coalesce(new_name, s.name),
           description = coalesce(new_description, s.description),
           updated_at = now()
     where s.id = secret_id;
end
$fn$;

revoke all on all functions in schema vault from public;

-- On Supabase: nothing for anon and authenticated.
do $do$
declare
    who  text;
    part text;
begin
    foreach who in array array['owner', 'service_role'] loop
        continue when to_regrole(who) is null;
        foreach part in array array['usage on schema vault', 'select, delete on vault.secrets, vault.decrypted_secrets',
                                    'execute on function vault.create_secret, vault.update_secret, vault._crypto_aead_det_decrypt'] loop
            execute format('grant %s to %I%s', part, who, case who when 'owner' then ' with grant option' else '' end);
        end loop;
    end loop;
end
$do$;
