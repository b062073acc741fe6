// What stands behind a webhook of workflow_runs, as it is usually written: a run
// has ended, and its user's runs are counted again.
import process from "node:process";
import pg from "pg";

const [run, user] = process.argv.slice(2);
const db = new pg.Client({ connectionString: process.env.DATABASE_URL });
await db.connect();
await db.query("update workflow_runs set status = 'completed', completed_at = '2026-01-01 12:05+00' where id = $1", [run]);
const { rows } = await db.query("select count(*)::int as n from workflow_runs where user_id = $1 and status = 'completed'", [user]);
await db.query("update users set runs = $2 where id = $1", [user, rows[0].n]);
await db.end();
