"use server";

// A server action of Next.js: begins a run for the signed-in user, does the work, and
// completes it. The limits are the application's own; only the server may name them.

import { Problem, RunCounter } from "../runcounter.ts";

const runs = new RunCounter({ url: process.env["RUNCOUNTER_URL"] ?? "http://127.0.0.1:8080", token: process.env["RUNCOUNTER_API_KEY"] ?? "" });

interface Plan {
  userId: string;
  perWorkflow: number;
  perMonth: number;
  periodBegan: Date;
}

export async function runWorkflow(plan: Plan, workflowId: string, idempotencyKey: string, work: () => Promise<string>) {
  try {
    const output = await runs.withRun(
      { userId: plan.userId, workflowId, limit: plan.perWorkflow, userLimit: plan.perMonth, from: plan.periodBegan, idempotencyKey },
      work,
    );
    return { ok: true as const, output };
  } catch (error) {
    if (error instanceof Problem && error.code === "limit_reached") {
      return { ok: false as const, reached: error.limits.filter((l) => l.remaining === 0), message: error.message };
    }
    throw error;
  }
}
