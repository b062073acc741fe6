-- Everything that install made, by name: what others have put beside it
-- stops this with an error.
begin;
set local lock_timeout = '2s';
do $do$
declare
    v_trigger record;
begin
    for v_trigger in
        select tgname, tgrelid::regclass as on_table from pg_trigger
         where tgname in ('run_counter_webhook_insert', 'run_counter_webhook_update', 'run_counter_webhook_delete')
    loop
        execute format('drop trigger %I on %s', v_trigger.tgname, v_trigger.on_table);
    end loop;
    if to_regnamespace('run_counter_webhook') is not null then
        -- By their names alone: the type of an id stands in the arguments of one.
        drop function if exists run_counter_webhook.notify, run_counter_webhook.evidence, run_counter_webhook.send,
            run_counter_webhook.acknowledge, run_counter_webhook.prune, run_counter_webhook.add_up, run_counter_webhook.hmac;
        drop table if exists run_counter_webhook.settings, run_counter_webhook.calls, run_counter_webhook.losses, run_counter_webhook.failures;
        drop sequence if exists run_counter_webhook.version;
        drop schema run_counter_webhook;
    end if;
    if to_regclass('vault.secrets') is not null then
        delete from vault.secrets where name in ('run_counter_webhook', 'run_counter_webhook_next');
    end if;
end
$do$;
commit;
