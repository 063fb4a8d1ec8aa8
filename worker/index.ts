/** The edge Worker: wiring only. The path of a request is `edge.ts`. */

import { Hono } from "hono";
import { Edge } from "./edge.ts";
import { type Environment, SettingError } from "./environment.ts";
import { errorPage } from "./error-page.ts";
import { readStatus, STATUS_PATH } from "./status.ts";

const app = new Hono<{ Bindings: Environment }>();

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

/** Unless it is switched on, this path is routed like any other. With `?look` the isolate looks for a newer pointer first. */
app.get(STATUS_PATH, async (c, next) => {
  const current = edgeOf(c.env);
  if (!current.settings.showsStatus) return next();
  if (c.req.query("look") !== undefined) await current.store.look();
  return c.json(readStatus(current));
});

app.all("*", (c) => edgeOf(c.env).answer(c.req.raw, c.executionCtx as ExecutionContext));

app.onError((error) => {
  console.error(error instanceof SettingError ? error.message : (error.stack ?? error.message));
  return errorPage(500);
});

export { Limiter } from "./limits/limiter-object.ts";
export default app;
