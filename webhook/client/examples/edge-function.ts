// A Supabase Edge Function: begins a run of the signed-in user by SQL, does the work, and
// completes it. Whose run it is comes from the token and never from the body: the key of
// service_role, with which runs begin, opens everybody's.

import { createClient } from "npm:@supabase/supabase-js@2";
import { beginRun, completeRun, countRuns } from "../rpc.ts";
import { work } from "./application.ts";

declare const Deno: {
  env: { get(name: string): string | undefined };
  serve(handler: (request: Request) => Promise<Response>): unknown;
};

Deno.serve(async (request) => {
  const db = createClient(Deno.env.get("SUPABASE_URL") ?? "", Deno.env.get("SUPABASE_SERVICE_ROLE_KEY") ?? "");
  const token = (request.headers.get("Authorization") ?? "").replace(/^Bearer /, "");
  const { data } = await db.auth.getUser(token);
  if (data.user === null) return Response.json({ error: "sign in" }, { status: 401 });
  const userId = data.user.id;
  const { workflowId, runId } = (await request.json()) as { workflowId: string; runId: string };

  // The browser draws runId, so that a repeated request begins nothing twice.
  const run = await beginRun(db, { userId, workflowId, id: runId, limit: 10 });
  if (run === null) return Response.json({ error: "no runs left" }, { status: 402 });
  let output: string;
  try {
    output = await work(userId, workflowId);
  } catch (error) {
    await completeRun(db, run, { status: "failed", errorDetails: { message: String(error) } });
    throw error;
  }
  await completeRun(db, run, { status: "completed" });
  return Response.json({ output, count: await countRuns(db, { userId, workflowId }) });
});
