"use server";

// A server action of Next.js: begins a run for the signed-in user, does the work, and
// completes it. What a browser sends is the workflow alone; the user and the limits are
// looked up here, since every export of this file is an address that anybody can call.

import { Problem, RunCounter } from "../runcounter.ts";
import { currentPlan, work } from "./application.ts";

const runs = new RunCounter({ url: process.env["RUNCOUNTER_URL"] ?? "http://127.0.0.1:8080", token: process.env["RUNCOUNTER_API_KEY"] ?? "" });

export async function runWorkflow(workflowId: string, idempotencyKey: string) {
  const plan = await currentPlan();
  try {
    const output = await runs.withRun(
      { userId: plan.userId, workflowId, limit: plan.perWorkflow, userLimit: plan.perMonth, userFrom: plan.periodBegan, idempotencyKey },
      () => work(plan.userId, workflowId),
    );
    return { ok: true as const, output };
  } catch (error) {
    if (error instanceof Problem && error.code === "limit_reached") {
      return { ok: false as const, reached: error.limits.filter((l) => l.remaining === 0), message: error.message };
    }
    throw error;
  }
}
