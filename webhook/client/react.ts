"use client";

// Hooks for the number beside the button: live, for the signed-in user. The client is to
// be made outside the component, and a time to be the same at each render, or each one
// connects anew.

import { useEffect, useState } from "react";
import type { Allowance, CountQuery, Id, Limits, LiveCount, Ran, RunCounter } from "./runcounter.ts";

/** A live value: undefined until the first answer, and the last error where the stream is lost. */
export interface Live<T> {
  value: T | undefined;
  error: unknown;
}

/** How many runs the signed-in user may still begin, live. */
export function useAllowance(client: RunCounter, q: Ran & Limits & { userId?: Id }): Live<Allowance> {
  return useLive(JSON.stringify(q, text), (on, failed) => client.watchAllowance(q, on, failed), client);
}

/** A count of the signed-in user, live. */
export function useCount(client: RunCounter, q: CountQuery): Live<LiveCount> {
  return useLive(JSON.stringify(q, text), (on, failed) => client.watchCount(q, on, failed), client);
}

function useLive<T>(asked: string, watch: (on: (value: T) => void, failed: (error: unknown) => void) => () => void, client: RunCounter): Live<T> {
  const [live, setLive] = useState<Live<T>>({ value: undefined, error: undefined });
  useEffect(() => {
    setLive({ value: undefined, error: undefined });
    return watch(
      (value) => setLive({ value, error: undefined }),
      (error) => setLive((last) => ({ value: last.value, error })),
    );
  }, [client, asked]); // the question, and not the object that holds it: that is another at each render
  return live;
}

function text(_: string, value: unknown): unknown {
  return typeof value === "bigint" ? value.toString() : value;
}
