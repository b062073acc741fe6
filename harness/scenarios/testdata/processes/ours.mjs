// The same where Run Counter counts: the row's trigger does, in the statement that
// ends the run.
import process from "node:process";
import pg from "pg";

const [run, user, workflow] = process.argv.slice(2);
const db = new pg.Client({ connectionString: process.env.DATABASE_URL });
await db.connect();
await db.query("update workflow_runs set status = 'completed', completed_at = '2026-01-01 12:05+00' where id = $1", [run]);
await db.query("select get_user_workflow_run_count($1, $2)", [user, workflow]);
await db.end();
