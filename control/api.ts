/**
 * The HTTP API of the control service (Hono). Its shape is told by `openapi.ts`; a test holds the two together.
 *
 * In: a view of the service, the tokens. Out: an app. Not here: listening (`main.ts`), who may do what
 * (`access.ts`), what a push means (`pushed-clusters.ts`).
 *
 * Open to everybody: `/healthz`, `/readyz`, `/metrics`, `/openapi.json`; they tell nothing of the cluster's
 * contents. Everything below `/v1` needs a bearer token. Every answer but the metrics is JSON; an error is
 * `{"error": sentence}`.
 */

import { setTimeout as delay } from "node:timers/promises";
import { Hono } from "hono";
import { bodyLimit } from "hono/body-limit";
import { createMiddleware } from "hono/factory";
import { HTTPException } from "hono/http-exception";
import type { ClusterModel } from "../cluster/model.ts";
import { type AccessTokens, type Caller, identify, isClusterName } from "./access.ts";
import { explain } from "./explain.ts";
import { KvError } from "./kv/kv-error.ts";
import { openApiDocument } from "./openapi.ts";
import { readPushedState } from "./pushed-clusters.ts";
import type { ClusterView, ControlView } from "./view.ts";

export interface ApiSettings {
  readonly view: ControlView;
  readonly tokens: AccessTokens;
  readonly maxBodyBytes: number;
  /**
   * Answer only requests whose `Host` is this machine's own name: without tokens, a web page that points its
   * name at 127.0.0.1 must not be able to ask.
   */
  readonly loopbackOnly: boolean;
  /** Told of errors that are bugs of ours. */
  readonly onBug: (error: unknown) => void;
}

/** 100 000 endpoints are a fifth of it. */
export const DEFAULT_MAX_BODY_BYTES = 128 * 1024 * 1024;

/** A push that waits for its publication gets an answer after this time whatever happens. */
const MAX_WAIT_MS = 60_000;

type Env = { Variables: { caller: Caller } };

export function createControlApi({
  view,
  tokens,
  maxBodyBytes,
  loopbackOnly,
  onBug,
}: ApiSettings): Hono<Env> {
  const app = new Hono<Env>();

  app.onError((error, context) => {
    if (error instanceof HTTPException) {
      return context.json({ error: error.message }, error.status, headersFor(error.status));
    }
    if (error instanceof KvError) return context.json({ error: error.message }, 502);
    onBug(error); // Its stack is for the log, not for the caller.
    return context.json({ error: "The control service failed to answer; its log says more." }, 500);
  });
  app.notFound((context) =>
    context.json(
      {
        error: `There is no ${context.req.method} ${context.req.path} here; /openapi.json lists what there is.`,
      },
      404,
    ),
  );

  if (loopbackOnly) {
    app.use(async (context, next) => {
      const host = new URL(context.req.url).hostname;
      if (!["127.0.0.1", "localhost", "[::1]"].includes(host))
        throw new HTTPException(403, {
          message: `This service answers to 127.0.0.1 and localhost, not to ${host}.`,
        });
      await next();
    });
  }

  app.get("/healthz", (context) => context.json({ status: "ok" }));
  app.get("/readyz", (context) => {
    const reason = view.notReady();
    return reason === undefined ? context.json({ ready: true }) : context.json({ ready: false, reason }, 503);
  });
  app.get("/openapi.json", (context) => context.json(openApiDocument));
  app.get("/metrics", (context) => {
    if (view.metrics === undefined) return context.notFound();
    return context.text(view.metrics(), 200, { "content-type": "text/plain; version=0.0.4; charset=utf-8" });
  });

  app.use("/v1/*", async (context, next) => {
    const caller = identify(context.req.header("authorization"), tokens);
    if (caller === undefined)
      throw new HTTPException(401, { message: "A bearer token of this control service is needed." });
    context.set("caller", caller);
    await next();
  });
  const operator = createMiddleware<Env>(async (context, next) => {
    if (context.var.caller.kind !== "operator")
      throw new HTTPException(403, {
        message: "This token pushes one cluster's state and does nothing else.",
      });
    await next();
  });
  /** The operator, or the owner of the token for this cluster. */
  const owner = createMiddleware<Env>(async (context, next) => {
    const name = context.req.param("name") ?? "";
    if (!isClusterName(name))
      throw new HTTPException(400, {
        message: `${JSON.stringify(name)} is no name of a cluster; a DNS label such as "eu-1" is expected.`,
      });
    const { caller } = context.var;
    if (caller.kind === "cluster" && caller.cluster !== name)
      throw new HTTPException(403, { message: `This token is for the cluster ${caller.cluster}.` });
    await next();
  });

  app.get("/v1/status", operator, (context) => {
    const edge = view.edge();
    const reason = view.notReady();
    return context.json({
      ready: reason === undefined,
      ...(reason === undefined ? {} : { reason }),
      publisher: view.publisher.status(),
      clusters: view.clusters().map(summary),
      ...(edge === undefined
        ? {}
        : {
            edge: {
              hosts: edge.hosts.size,
              backends: edge.backends.size,
              endpoints: Array.from(edge.backends.values()).reduce(
                (sum, one) => sum + one.endpoints.length,
                0,
              ),
              diagnostics: countBySeverity(edge.diagnostics),
            },
          }),
    });
  });

  app.get("/v1/explain", operator, (context) => {
    const { url, method = "GET" } = context.req.query();
    if (url === undefined || url === "")
      throw new HTTPException(400, { message: "The query parameter `url` is missing." });
    const headers = (context.req.queries("header") ?? []).map((header): [string, string] => {
      const colon = header.indexOf(":");
      if (colon < 1)
        throw new HTTPException(400, {
          message: `${JSON.stringify(header)} is no header; 'Name: value' is expected.`,
        });
      return [header.slice(0, colon).trim(), header.slice(colon + 1).trim()];
    });
    const edge = view.edge();
    if (edge === undefined)
      throw new HTTPException(503, { message: view.notReady() ?? "There is no configuration yet." });
    const explanation = explain(edge.config, { url, method, headers }, edge.diagnostics);
    if (explanation === undefined)
      throw new HTTPException(400, { message: `${JSON.stringify(url)} is not a URL with a host.` });
    return context.json(explanation);
  });

  app.get("/v1/diagnostics", operator, (context) => {
    const { severity, cluster, object } = context.req.query();
    if (severity !== undefined && !["error", "warning", "info"].includes(severity)) {
      throw new HTTPException(400, {
        message: `\`severity\` is error, warning or info, not ${JSON.stringify(severity)}.`,
      });
    }
    const diagnostics = (view.edge()?.diagnostics ?? []).filter(
      (one) =>
        (severity === undefined || one.severity === severity) &&
        (cluster === undefined || one.cluster === cluster) &&
        (object === undefined || one.object === object),
    );
    return context.json({ diagnostics });
  });

  app.get("/v1/clusters", operator, (context) => context.json({ clusters: view.clusters().map(summary) }));

  app.get("/v1/clusters/:name/state", owner, (context) => {
    const name = context.req.param("name");
    const cluster = view.clusters().find((one) => one.name === name);
    if (cluster === undefined) throw new HTTPException(404, { message: `There is no cluster ${name}.` });
    return context.json(summary(cluster));
  });

  const limit = bodyLimit({
    maxSize: maxBodyBytes,
    onError: () => {
      throw new HTTPException(413, { message: `The state is larger than ${maxBodyBytes} bytes.` });
    },
  });
  app.put("/v1/clusters/:name/state", owner, limit, async (context) => {
    const name = context.req.param("name");
    if (view.push === undefined)
      throw new HTTPException(405, { message: "States cannot be pushed to this service." });
    if (!view.publisher.status().leading) {
      throw new HTTPException(503, { message: "This replica does not lead; another one takes the state." });
    }
    const text = await context.req.text();
    const reading = readPushedState(name, text, Date.now());
    if (reading.kind === "unreadable") {
      return context.json(
        {
          error: "The state cannot be read to its end, so nothing was changed.",
          diagnostics: reading.diagnostics,
        },
        422,
      );
    }
    if (reading.kind === "empty") {
      throw new HTTPException(422, {
        message: `The state holds no object that Fairlead knows; to take the cluster away, use DELETE /v1/clusters/${name}.`,
      });
    }
    view.push.put(name, reading.state);
    if (context.req.query("wait") === "true") {
      await Promise.race([view.settled(), delay(MAX_WAIT_MS, undefined, { ref: false })]);
    }
    const status = view.publisher.status();
    const diagnostics = (view.edge()?.diagnostics ?? []).filter(({ cluster }) => cluster === name);
    return context.json({
      cluster: name,
      objects: countObjects(reading.state.model),
      diagnostics,
      published: !status.pending && view.notReady() === undefined,
      ...(status.generation === undefined ? {} : { generation: status.generation }),
      ...(view.notReady() === undefined ? {} : { reason: view.notReady() }),
    });
  });

  app.delete("/v1/clusters/:name", operator, owner, (context) => {
    const name = context.req.param("name");
    if (view.push === undefined)
      throw new HTTPException(405, { message: "Clusters cannot be taken away here." });
    if (!view.push.remove(name))
      throw new HTTPException(404, { message: `There is no cluster ${name} that was pushed.` });
    return context.json({ cluster: name, removed: true });
  });

  app.get("/v1/generations", operator, (context) => {
    const { generation, pinned } = view.publisher.status();
    return context.json({
      ...(generation === undefined ? {} : { current: generation }),
      ...(pinned === undefined ? {} : { pinned }),
      generations: view.publisher.generations(),
    });
  });
  app.post("/v1/generations/:generation/rollback", operator, async (context) => {
    const generation = Number(context.req.param("generation"));
    if (!Number.isSafeInteger(generation) || generation < 1)
      throw new HTTPException(400, { message: "A generation is a number from 1." });
    try {
      await view.publisher.rollback(generation);
    } catch (error) {
      if (error instanceof RangeError) throw new HTTPException(409, { message: error.message });
      throw error;
    }
    return context.json(view.publisher.status());
  });
  app.post("/v1/generations/resume", operator, async (context) => {
    await view.publisher.unpin();
    return context.json(view.publisher.status());
  });

  return app;
}

function headersFor(status: number): Record<string, string> {
  if (status === 401) return { "www-authenticate": 'Bearer realm="fairlead"' };
  return status === 503 ? { "retry-after": "1" } : {};
}

function summary({ name, receivedAtMs, model, problem }: ClusterView): Record<string, unknown> {
  return {
    name,
    ...(receivedAtMs === undefined ? {} : { receivedAt: new Date(receivedAtMs).toISOString() }),
    ...(model === undefined ? {} : { objects: countObjects(model) }),
    ...(problem === undefined ? {} : { problem }),
  };
}

function countObjects(model: ClusterModel): Record<string, number> {
  const slices = [...model.endpointSlices.values()].flat();
  return {
    ingresses: model.ingresses.size,
    ingressClasses: model.ingressClasses.size,
    services: model.services.size,
    endpointSlices: slices.length,
    endpoints: slices.reduce((sum, { endpoints }) => sum + endpoints.length, 0),
    secrets: model.secrets.size,
    configMaps: model.configMaps.size,
    nodes: model.nodes.size,
    pods: model.pods.size,
  };
}

function countBySeverity(diagnostics: readonly { readonly severity: string }[]): Record<string, number> {
  const counts: Record<string, number> = { error: 0, warning: 0, info: 0 };
  for (const { severity } of diagnostics) counts[severity] = (counts[severity] ?? 0) + 1;
  return counts;
}
