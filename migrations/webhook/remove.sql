-- Everything that install made, by name: what others have put beside it
-- stops this with an error.
begin;
set local lock_timeout = '2s';
do $do$
declare
    v_table text;
begin
    for v_table in select distinct tgrelid::regclass::text from pg_trigger where tgname in
        ('run_counter_webhook_insert', 'run_counter_webhook_update', 'run_counter_webhook_delete')
    loop
        execute format('drop trigger if exists run_counter_webhook_insert on %s', v_table);
        execute format('drop trigger if exists run_counter_webhook_update on %s', v_table);
        execute format('drop trigger if exists run_counter_webhook_delete on %s', v_table);
    end loop;
    drop function if exists run_counter_webhook.notify();
    drop function if exists run_counter_webhook.evidence(uuid, text, timestamptz, text, timestamptz);
    drop function if exists run_counter_webhook.send(jsonb, integer, integer);
    drop function if exists run_counter_webhook.acknowledge(pg_snapshot, timestamptz);
    drop function if exists run_counter_webhook.prune(bigint, bigint);
    drop function if exists run_counter_webhook.add_up();
    drop function if exists run_counter_webhook.hmac(bytea, bytea);
    if to_regnamespace('run_counter_webhook') is not null then
        drop table if exists run_counter_webhook.settings;
        drop table if exists run_counter_webhook.calls;
        drop table if exists run_counter_webhook.losses;
        drop table if exists run_counter_webhook.failures;
        drop sequence if exists run_counter_webhook.version;
        drop schema run_counter_webhook;
    end if;
    if to_regclass('vault.secrets') is not null then
        delete from vault.secrets where name in ('run_counter_webhook', 'run_counter_webhook_next');
    end if;
end
$do$;
commit;
