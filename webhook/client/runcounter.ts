// The client of Run Counter's HTTP API: one file without dependencies, for servers,
// browsers and edge functions. Every call may be made again, and is made again by
// itself where the server is busy or out of reach.

/** An id as the table has it. It is always answered as a string. */
export type Id = string | number | bigint;

/** A moment in RFC 3339, or a Date. */
export type Moment = string | Date;

export type ActiveStatus = "pending" | "running" | "cancelling";
export type TerminalStatus = "completed" | "failed" | "cancelled" | "timeout";

/** Any value that JSON has. */
export type Json = null | boolean | number | string | Json[] | { [name: string]: Json };

/** What ran: a workflow, or a draft of one. Neither in a table without workflows. */
export type Ran =
  | { workflowId: Id; draftId?: undefined }
  | { draftId: Id; workflowId?: undefined }
  | { workflowId?: undefined; draftId?: undefined };

/** One run of `workflow_runs`. Times are RFC 3339, and null where there is none. */
export interface Run {
  id: string;
  user_id: string | null;
  workflow_id: string | null;
  draft_id: string | null;
  /** One of ours, or a word of the table that means none of them. */
  status: ActiveStatus | TerminalStatus | (string & {});
  created_at: string | null;
  started_at: string | null;
  completed_at: string | null;
  updated_at: string | null;
  duration_ms: number | null;
  error_details: Json;
  state_snapshot: Json;
  /** The outcome is provisional: a sweep gave it to a run that was silent. */
  presumed: boolean;
  /** The run counts under the policy in force. */
  counted: boolean;
}

/** A run that was begun; `created` is false where an earlier call created it. */
export interface BegunRun extends Run {
  created: boolean;
  /** The limits of the call, with this run in them. */
  limits?: Usage[];
}

/** The outcome that stands, and whether this call set it. */
export interface CompletedRun {
  /** False where the run had ended before, also by an earlier try of this very call. */
  won: boolean;
  /** An unknown status of the table stays as it is, and has no end. */
  status: TerminalStatus | (string & {});
  completed_at: string | null;
  /** The count of the run's user and workflow after it. */
  count: number;
}

/** Ended runs by status. */
export interface Tally {
  completed: number;
  failed: number;
  cancelled: number;
  timeout: number;
}

/** An exact count. Ids that were not asked for are null. */
export interface Count extends Tally {
  user_id: string | null;
  workflow_id: string | null;
  draft_id: string | null;
  /** Under the policy in force. */
  count: number;
  /** How many of each status are presumed, and may still change. */
  presumed: Tally;
  /** Of a user and workflow for all time alone. */
  last_run_at: string | null;
  kind?: "workflow" | "draft" | "all";
  /** The window, where one was asked for. */
  from?: string;
  to?: string;
}

/** A count as a stream tells it: when the last run ended is left to count(). */
export type LiveCount = Omit<Count, "last_run_at">;

/** Whose runs a limit bounds: those of this user and workflow, or all of the user. */
export type LimitScope = "key" | "user";

/** How far a limit is used, in one snapshot. */
export interface Usage {
  scope: LimitScope;
  max: number;
  /** The beginning of the period, or null for all time. */
  from: string | null;
  granted: number;
  counted: number;
  active: number;
  remaining: number;
}

export interface Allowance {
  limits: Usage[];
  /** How many runs may begin now: the least of the limits. */
  remaining: number;
}

/** Runs that a user was given on top of a limit. */
export interface Grant {
  id: number;
  user_id: string | null;
  workflow_id: string | null;
  draft_id: string | null;
  runs: number;
  /** It is neither revoked nor expired. */
  stands: boolean;
  who: string;
  why: string;
  granted_at: string;
  expires_at: string | null;
  idempotency_key: string | null;
  revoked_at: string | null;
  revoked_by: string | null;
  revoked_why: string | null;
}

/** A grant that was made; `created` is false where an earlier call with the key made it. */
export interface MadeGrant extends Grant {
  created: boolean;
}

/** Limits of the runs of a user. Without a beginning they are for all time. */
export interface Limits {
  /** Most runs of this workflow or draft. */
  limit?: number;
  /** Most runs of all workflows and drafts together. */
  userLimit?: number;
  /** The beginning of the period of both limits. */
  from?: Moment;
  /** The beginning of the period of `userLimit`, where it is another. */
  userFrom?: Moment;
}

export type Begin = Ran &
  Limits & {
    userId: Id;
    /** The run's id. Without one the server draws it. */
    id?: Id;
    /** A call with the same key finds the run that the first one began. */
    idempotencyKey?: string;
  };

/** How a run ends. */
export interface Outcome {
  status: TerminalStatus;
  durationMs?: number;
  errorDetails?: Json;
  stateSnapshot?: Json;
}

/** What a count is asked for. Without a user it is that of all users. */
export type CountQuery = Ran & {
  userId?: Id;
  /** Those of all users, which a signed-in user has to say: without it a count is their own. */
  users?: "all";
  kind?: "workflow" | "draft";
  from?: Moment;
  to?: Moment;
};

/** An error that the server answered, as RFC 9457 has it. */
export class Problem extends Error {
  override name = "Problem";
  constructor(
    readonly status: number,
    message: string,
    /** For programs: limit_reached, conflict, no_index. */
    readonly code: string | undefined,
    /** Of limit_reached: the limits as they were. */
    readonly limits: Usage[],
    /** Seconds after which the server asks to be called again; 0 where it does not say. */
    readonly retryAfter: number,
  ) {
    super(message);
  }
}

/** The run of this id or idempotency key has ended for real; `run.status` says how. */
export class RunEnded extends Error {
  override name = "RunEnded";
  constructor(readonly run: BegunRun) {
    super(`run ${run.id} has ended: it is ${run.status}`);
  }
}

/** Where the server is, and what is shown to it. */
export interface Options {
  /** Such as https://runcounter.fly.dev. */
  url: string | URL;
  /** An API key on a server, or the signed-in user's access token in a browser. */
  token?: string | (() => string | Promise<string>);
  fetch?: typeof fetch;
  /** How often a call is made while the server is busy or unreachable; 5 unless set. */
  tries?: number;
  /** How long one try of a call may take, in milliseconds; 30,000 unless set. */
  timeoutMs?: number;
}

/** A client of `/v1`. */
export class RunCounter {
  constructor(private readonly options: Options) {}

  /** Reserves a slot and creates a run. Throws a [Problem] with the code limit_reached where a limit leaves none. */
  begin(b: Begin): Promise<BegunRun> {
    return this.send("POST", "runs", {
      id: idOf(b.id),
      user_id: idOf(b.userId),
      workflow_id: idOf(b.workflowId),
      draft_id: idOf(b.draftId),
      // Or a second try would begin a second run.
      idempotency_key: b.idempotencyKey ?? (b.id === undefined ? crypto.randomUUID() : undefined),
      limits: limitsOf(b),
    });
  }

  /** Moves a pending run to running. A run in any other status stays as it is. */
  start(id: Id): Promise<Run> {
    return this.send("POST", `runs/${segment(id)}/start`, {});
  }

  /** Ends a run. Where it has ended already, `won` is false, and the answer is the outcome that stands. */
  complete(id: Id, outcome: Outcome): Promise<CompletedRun> {
    return this.send("POST", `runs/${segment(id)}/complete`, {
      status: outcome.status,
      duration_ms: outcome.durationMs,
      error_details: outcome.errorDetails,
      state_snapshot: outcome.stateSnapshot,
    });
  }

  run(id: Id): Promise<Run> {
    return this.send("GET", `runs/${segment(id)}`);
  }

  /** The exact count of a user's runs of a workflow, of all a user's runs, or of a workflow over all users. */
  count(q: CountQuery): Promise<Count> {
    return this.send("GET", `counts?${countQuery(q)}`);
  }

  /** How many runs may still begin. It reserves none. */
  allowance(q: Ran & Limits & { userId?: Id }): Promise<Allowance> {
    return this.send("GET", `allowance?${allowanceQuery(q)}`);
  }

  /** Gives a user runs on top of their limits, in place of deleting runs. */
  grant(g: Ran & { userId: Id; runs: number; who: string; why: string; expiresAt?: Moment; idempotencyKey?: string }): Promise<MadeGrant> {
    return this.send("POST", "grants", {
      ...ids(g),
      runs: g.runs,
      who: g.who,
      why: g.why,
      expires_at: momentOf(g.expiresAt),
      idempotency_key: g.idempotencyKey ?? crypto.randomUUID(),
    });
  }

  /** Ends a grant before its time. What was begun stays begun. */
  revoke(grant: number, who: string, why: string): Promise<Grant> {
    return this.send("POST", `grants/${grant}/revoke`, { who, why });
  }

  /**
   * Begins a run, does the work, and completes the run: `completed` where the work
   * returns, `failed` where it throws, which is thrown on. Where an earlier call with
   * the same id or idempotency key began the run, the work is done again unless the run
   * has really ended: then a [RunEnded] is thrown. A presumed end is none.
   */
  async withRun<T>(b: Begin, work: (run: BegunRun) => Promise<T>): Promise<T> {
    const begun = await this.begin(b);
    if (begun.completed_at !== null && !begun.presumed) throw new RunEnded(begun);
    let result: T;
    try {
      result = await work({ ...begun, ...(await this.start(begun.id)) });
    } catch (error) {
      // The work's error is the one to see. Where this call fails too, the run keeps its
      // slot until a sweep ends it.
      await this.complete(begun.id, { status: "failed", errorDetails: { message: String(error) } }).catch(() => undefined);
      throw error;
    }
    await this.complete(begun.id, { status: "completed" });
    return result;
  }

  /** Calls `on` with the allowance as it is now, and whenever it changes, until the returned function is called. */
  watchAllowance(q: Ran & Limits & { userId?: Id }, on: (a: Allowance) => void, failed: (error: unknown) => void = console.warn): () => void {
    return this.watch(`allowance/stream?${allowanceQuery(q)}`, "allowance", on, failed);
  }

  /** Calls `on` with a count as it is now, and whenever it changes, until the returned function is called. */
  watchCount(q: CountQuery, on: (c: LiveCount) => void, failed: (error: unknown) => void = console.warn): () => void {
    return this.watch(`counts/stream?${countQuery(q)}`, "count", on, failed);
  }

  private watch<T>(path: string, event: string, on: (value: T) => void, failed: (error: unknown) => void): () => void {
    const stop = new AbortController();
    void (async () => {
      for (let wait = 1000; !stop.signal.aborted; ) {
        const began = Date.now();
        try {
          await this.read<T>(path, event, stop.signal, (value) => {
            try {
              on(value);
            } catch (error) {
              failed(error); // of the caller, and no reason to connect again
            }
          });
        } catch (error) {
          if (stop.signal.aborted) return;
          failed(error);
          if (error instanceof Problem && error.status < 500 && error.status !== 401 && error.status !== 429) return; // the same again would be refused again
        }
        wait = Date.now() - began > 30_000 ? 1000 : Math.min(wait * 2, 30_000);
        await pause(wait * (0.5 + Math.random()), stop.signal);
      }
    })();
    return () => stop.abort();
  }

  // EventSource can't send a header, and a token in an address ends up in logs.
  private async read<T>(path: string, event: string, stop: AbortSignal, on: (value: T) => void): Promise<void> {
    const lost = new AbortController();
    // The server writes every 15 s at least. A connection that went to sleep says nothing.
    const late = () => lost.abort(new Error("the stream was silent for 45 s"));
    let timer = setTimeout(late, 45_000);
    try {
      const response = await this.fetch("GET", path, AbortSignal.any([stop, lost.signal]));
      if (response.body === null) throw new Error("the stream has no body");
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      for (let rest = ""; ; ) {
        const { value, done } = await reader.read();
        if (done) return;
        clearTimeout(timer);
        timer = setTimeout(late, 45_000);
        const blocks = (rest + value).split("\n\n");
        rest = blocks.pop() ?? "";
        for (const block of blocks) {
          const data = /^data: (.*)$/m.exec(block)?.[1];
          if (data !== undefined && block.startsWith(`event: ${event}\n`) && !stop.aborted) on(JSON.parse(data) as T);
        }
      }
    } finally {
      clearTimeout(timer);
      lost.abort(); // ends the request, whatever came between
    }
  }

  private async send<T>(method: string, path: string, body?: object): Promise<T> {
    const tries = this.options.tries ?? 5;
    for (let n = 1; ; n++) {
      try {
        const response = await this.fetch(method, path, AbortSignal.timeout(this.options.timeoutMs ?? 30_000), body);
        return (await response.json()) as T;
      } catch (error) {
        if (n >= tries || (error instanceof Problem && ![429, 502, 503, 504].includes(error.status))) throw error;
        const asked = error instanceof Problem ? 1000 * error.retryAfter : 0;
        await pause(Math.max(asked, 100 * 2 ** n) * (0.5 + Math.random()));
      }
    }
  }

  private async fetch(method: string, path: string, signal: AbortSignal, body?: object): Promise<Response> {
    const { url, token } = this.options;
    const headers: Record<string, string> = {};
    const shown = typeof token === "function" ? await token() : token;
    if (shown) headers["Authorization"] = `Bearer ${shown}`;
    if (body !== undefined) headers["Content-Type"] = "application/json";
    const response = await (this.options.fetch ?? fetch)(`${String(url).replace(/\/+$/, "")}/v1/${path}`, {
      method,
      headers,
      body: body === undefined ? null : JSON.stringify(body),
      signal,
    });
    if (!response.ok) throw await problemOf(response);
    return response;
  }
}

async function problemOf(response: Response): Promise<Problem> {
  const text = await response.text();
  const wait = Number(response.headers.get("Retry-After")) || 0;
  try {
    const p = JSON.parse(text) as { detail?: string; code?: string; limits?: Usage[] };
    return new Problem(response.status, p.detail ?? text, p.code, p.limits ?? [], wait);
  } catch {
    return new Problem(response.status, text || response.statusText, undefined, [], wait);
  }
}

function limitsOf(l: Limits): { scope: LimitScope; max: number; from?: string }[] | undefined {
  const limits: { scope: LimitScope; max: number; from?: string }[] = [];
  for (const [scope, max, since] of [["key", l.limit, l.from], ["user", l.userLimit, l.userFrom ?? l.from]] as const) {
    const from = momentOf(since);
    if (max !== undefined) limits.push(from === undefined ? { scope, max } : { scope, max, from });
  }
  return limits.length === 0 ? undefined : limits;
}

function countQuery(q: CountQuery): string {
  return query({ ...ids(q), users: q.users, kind: q.kind, from: momentOf(q.from), to: momentOf(q.to) });
}

function allowanceQuery(q: Ran & Limits & { userId?: Id }): string {
  return query({ ...ids(q), limit: q.limit, user_limit: q.userLimit, from: momentOf(q.from), user_from: momentOf(q.userFrom) });
}

function ids(of: { userId?: Id; workflowId?: Id | undefined; draftId?: Id | undefined }) {
  return { user_id: idOf(of.userId), workflow_id: idOf(of.workflowId), draft_id: idOf(of.draftId) };
}

function idOf(id: Id | undefined): string | undefined {
  return id === undefined ? undefined : String(id);
}

/** A moment as SQL and the API read it. */
export function momentOf(at: Moment | undefined): string | undefined {
  return at instanceof Date ? at.toISOString() : at;
}

function segment(id: Id): string {
  return encodeURIComponent(String(id));
}

function query(parameters: Record<string, string | number | undefined>): string {
  const set = Object.entries(parameters).flatMap(([name, value]) => (value === undefined ? [] : [[name, String(value)]]));
  return new URLSearchParams(set).toString();
}

function pause(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal?.addEventListener("abort", () => (clearTimeout(timer), resolve()), { once: true });
  });
}
