// Calls the SQL functions of Run Counter by supabase-js; no `runcounter serve` is
// needed. With the service_role key a caller may do all; with a signed-in user's session
// it may complete and count that user's runs.

import { momentOf } from "./runcounter.ts";
import type { Id, Json, Limits, LimitScope, Moment, Ran, TerminalStatus } from "./runcounter.ts";

/** The part of a Supabase client that is used, so that any version of it fits. */
export interface Rpc {
  rpc(name: string, args: Record<string, unknown>): PromiseLike<{ data: unknown; error: { message: string; code?: string; hint?: string | null } | null }>;
}

/** An error that PostgreSQL raised; `code` is its SQLSTATE. */
export class SqlError extends Error {
  override name = "SqlError";
  constructor(
    message: string,
    readonly code: string | undefined,
    readonly hint: string | undefined,
  ) {
    super(message);
  }
}

/** How far a limit is used, in one snapshot. */
export interface SqlUsage {
  scope: LimitScope;
  limit: number;
  granted: number;
  counted: number;
  active: number;
  remaining: number;
}

/**
 * Reserves a slot and creates a run. Returns its id, and null where a limit leaves no slot.
 * With an idempotency key it returns the first call's run, which may have ended since:
 * look at its row before the work is done again. `from` is that of both limits.
 */
export async function beginRun(db: Rpc, b: Ran & Omit<Limits, "userFrom"> & { userId: Id; id?: Id; idempotencyKey?: string }): Promise<string | null> {
  const id = await call(db, "begin_workflow_run", {
    ...keyOf(b),
    p_run_id: b.id,
    p_idempotency_key: b.idempotencyKey,
    p_limit: b.limit,
    p_user_limit: b.userLimit,
    p_from: momentOf(b.from),
  });
  return id === null ? null : String(id);
}

/** Ends a run. Returns true where this call ended it. */
export async function completeRun(
  db: Rpc,
  id: Id,
  outcome: { status: TerminalStatus; durationMs?: number; errorDetails?: Json; stateSnapshot?: Json },
): Promise<boolean> {
  return (await call(db, "complete_workflow_run", {
    p_run_id: id,
    p_status: outcome.status,
    p_duration_ms: outcome.durationMs,
    p_error_details: outcome.errorDetails,
    p_state_snapshot: outcome.stateSnapshot,
  })) as boolean;
}

/** The exact count of a user's runs of a workflow, of all a user's runs, or of a workflow over all users. */
export async function countRuns(db: Rpc, q: Ran & { userId?: Id; from?: Moment; to?: Moment }): Promise<number> {
  return (await call(db, "get_workflow_run_count", { ...keyOf(q), p_from: momentOf(q.from), p_to: momentOf(q.to) })) as number;
}

/** How far each limit that is given is used, the one that leaves least first. */
export async function allowanceOf(db: Rpc, q: Ran & Omit<Limits, "userFrom"> & { userId: Id }): Promise<SqlUsage[]> {
  return (await call(db, "get_workflow_run_allowance", { ...keyOf(q), p_limit: q.limit, p_user_limit: q.userLimit, p_from: momentOf(q.from) })) as SqlUsage[];
}

/** Gives a user runs on top of their limits, in place of deleting runs. Returns the grant's id. */
export async function grantRuns(
  db: Rpc,
  g: Ran & { userId: Id; runs: number; who: string; why: string; expiresAt?: Moment; idempotencyKey?: string },
): Promise<number> {
  return (await call(db, "grant_workflow_runs", {
    ...keyOf(g),
    p_runs: g.runs,
    p_who: g.who,
    p_why: g.why,
    p_expires_at: momentOf(g.expiresAt),
    p_idempotency_key: g.idempotencyKey,
  })) as number;
}

/** Ends a grant before its time. Returns false where it had been revoked before. */
export async function revokeGrant(db: Rpc, grant: number, who: string, why: string): Promise<boolean> {
  return (await call(db, "revoke_workflow_run_grant", { p_grant_id: grant, p_who: who, p_why: why })) as boolean;
}

function keyOf(of: { userId?: Id; workflowId?: Id | undefined; draftId?: Id | undefined }) {
  return { p_user_id: of.userId, p_workflow_id: of.workflowId, p_draft_id: of.draftId };
}

async function call(db: Rpc, name: string, args: Record<string, unknown>): Promise<unknown> {
  // What is left out has its default in the database; a bigint is no JSON.
  const given = Object.entries(args).flatMap(([key, value]) =>
    value === undefined ? [] : [[key, typeof value === "bigint" ? value.toString() : value] as const],
  );
  const { data, error } = await db.rpc(name, Object.fromEntries(given));
  if (error !== null) throw new SqlError(error.message, error.code, error.hint ?? undefined);
  return data;
}
