/**
 * The edge Worker: wiring only. The path of a request is `edge.ts`.
 *
 * The Worker's own pages are a Hono app. Where they are switched off, as in production, requests do not pass
 * through it: a router before the router would cost every one of them.
 */

import { Hono } from "hono";
import { Edge } from "./edge.ts";
import { type Environment, SettingError } from "./environment.ts";
import { errorPage } from "./error-page.ts";
import { readStatus, STATUS_PATH } from "./status.ts";

const app = new Hono<{ Bindings: Environment }>();

/** With `?look` the isolate looks for a newer pointer first. */
app.get(STATUS_PATH, async (c) => {
  const { store } = edgeOf(c.env);
  if (c.req.query("look") !== undefined) await store.look();
  return c.json(readStatus(edgeOf(c.env)));
});

app.all("*", (c) => edgeOf(c.env).answer(c.req.raw, c.executionCtx as ExecutionContext));

app.onError(fail);

let edge: Edge | undefined;
let edgeEnvironment: Environment | undefined;

/** The edge of this isolate; a new one when the environment is (in tests). */
function edgeOf(environment: Environment): Edge {
  if (edge === undefined || edgeEnvironment !== environment) {
    edge = new Edge(environment);
    edgeEnvironment = environment;
  }
  return edge;
}

function fail(error: Error): Response {
  console.error(error instanceof SettingError ? error.message : (error.stack ?? error.message));
  return errorPage(500);
}

export { Limiter } from "./limits/limiter-object.ts";

export default {
  async fetch(request, environment, context) {
    try {
      const current = edgeOf(environment);
      // Awaited here, so that what it throws is caught here.
      return await (current.settings.showsStatus
        ? app.fetch(request, environment, context)
        : current.answer(request, context));
    } catch (error) {
      return fail(error instanceof Error ? error : new Error(String(error)));
    }
  },
} satisfies ExportedHandler<Environment>;
