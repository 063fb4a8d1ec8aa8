/**
 * The Worker's own pages under `/.fairlead/`, as a Hono app. Loaded when one of them is first asked for: where they
 * are switched off, as in production, a new isolate pays nothing for them, and no request passes through a router
 * before the router.
 */

import { Hono } from "hono";
import type { Edge } from "./edge.ts";
import type { Environment } from "./environment.ts";
import { readStatus, STATUS_PATH } from "./status.ts";

/** Requests for anything else go to the edge. */
export function createPages(
  edgeOf: (environment: Environment) => Edge,
): Hono<{ readonly Bindings: Environment }> {
  const pages = new Hono<{ readonly Bindings: Environment }>();

  /** With `?look` the isolate looks for a newer pointer first. */
  pages.get(STATUS_PATH, async (c) => {
    const { store } = edgeOf(c.env);
    if (c.req.query("look") !== undefined) await store.look();
    return c.json(readStatus(edgeOf(c.env)));
  });

  pages.all("*", (c) => edgeOf(c.env).answer(c.req.raw, c.executionCtx as ExecutionContext));

  pages.onError((error) => {
    throw error; // Where all errors are caught: `index.ts`.
  });
  return pages;
}
