// A Supabase Edge Function: begins a run by SQL, does the work, and completes it.

import { createClient } from "@supabase/supabase-js";
import { beginRun, completeRun, countRuns } from "../rpc.ts";

declare const Deno: {
  env: { get(name: string): string | undefined };
  serve(handler: (request: Request) => Promise<Response>): unknown;
};

Deno.serve(async (request) => {
  const { userId, workflowId } = (await request.json()) as { userId: string; workflowId: string };
  const db = createClient(Deno.env.get("SUPABASE_URL") ?? "", Deno.env.get("SUPABASE_SERVICE_ROLE_KEY") ?? "");
  const run = await beginRun(db, { userId, workflowId, limit: 10 });
  if (run === null) return Response.json({ error: "no runs left" }, { status: 402 });
  try {
    const output = await work();
    await completeRun(db, run, { status: "completed" });
    return Response.json({ output, count: await countRuns(db, { userId, workflowId }) });
  } catch (error) {
    await completeRun(db, run, { status: "failed", errorDetails: { message: String(error) } });
    throw error;
  }
});

async function work(): Promise<string> {
  return "done";
}
