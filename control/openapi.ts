/** The control API as an OpenAPI 3.1 document, served at `/openapi.json`. A test compares it with the routes. */

const json = (description: string, schema: unknown): unknown => ({
  description,
  content: { "application/json": { schema } },
});
const ref = (name: string): unknown => ({ $ref: `#/components/schemas/${name}` });
const object = (
  properties: Record<string, unknown>,
  required: readonly string[] = Object.keys(properties),
): unknown => ({
  type: "object",
  properties,
  required,
});
const array = (items: unknown): unknown => ({ type: "array", items });
const text = { type: "string" };
const count = { type: "integer", minimum: 0 };
const flag = { type: "boolean" };
const time = { type: "string", format: "date-time" };

const refused = {
  "401": json("No bearer token, or an unknown one.", ref("Error")),
  "403": json("The token may not do this.", ref("Error")),
};
const query = (name: string, description: string, schema: unknown = text, required = false): unknown => ({
  in: "query",
  name,
  description,
  required,
  schema,
});
const clusterName = {
  in: "path",
  name: "name",
  required: true,
  description: "The cluster: a DNS label.",
  schema: text,
};
const open: readonly never[] = [];

export const openApiDocument = {
  openapi: "3.1.0",
  info: {
    title: "Fairlead control API",
    version: "1",
    description: "State of clusters in; status, explanations, diagnostics and generations out.",
    license: { name: "Apache-2.0", identifier: "Apache-2.0" },
  },
  security: [{ bearer: [] }],
  paths: {
    "/healthz": {
      get: {
        summary: "The process answers.",
        security: open,
        responses: { "200": json("It does.", object({ status: text })) },
      },
    },
    "/readyz": {
      get: {
        summary: "The edge is kept in step with every cluster.",
        security: open,
        responses: {
          "200": json("It is.", object({ ready: flag })),
          "503": json("Not yet, or not any more; `reason` says why.", object({ ready: flag, reason: text })),
        },
      },
    },
    "/metrics": {
      get: {
        summary: "Prometheus metrics.",
        security: open,
        responses: {
          "200": { description: "Text format 0.0.4.", content: { "text/plain": { schema: text } } },
        },
      },
    },
    "/openapi.json": {
      get: {
        summary: "This document.",
        security: open,
        responses: { "200": json("OpenAPI 3.1.", { type: "object" }) },
      },
    },
    "/v1/status": {
      get: {
        summary: "Everything at a glance.",
        responses: { "200": json("The status.", ref("Status")), ...refused },
      },
    },
    "/v1/explain": {
      get: {
        summary: "Which host, route, filters and endpoints a request would meet, and why.",
        parameters: [
          query("url", "The request's URL.", text, true),
          query("method", "Its method; GET by default."),
          query("header", "'Name: value'; may be repeated.", array(text)),
        ],
        responses: {
          "200": json("The explanation, as `fairlead explain --json` prints it.", { type: "object" }),
          "400": json("The URL or a header cannot be read.", ref("Error")),
          "503": json("There is no configuration yet.", ref("Error")),
          ...refused,
        },
      },
    },
    "/v1/diagnostics": {
      get: {
        summary: "What is wrong with the clusters' objects.",
        parameters: [
          query("severity", "Only this one.", { enum: ["error", "warning", "info"] }),
          query("cluster", "Only this cluster's."),
          query("object", "Only this object's: `namespace/name`."),
        ],
        responses: {
          "200": json("The diagnostics.", object({ diagnostics: array(ref("Diagnostic")) })),
          "400": json("An unknown severity.", ref("Error")),
          ...refused,
        },
      },
    },
    "/v1/clusters": {
      get: {
        summary: "All clusters.",
        responses: {
          "200": json("Their summaries.", object({ clusters: array(ref("Cluster")) })),
          ...refused,
        },
      },
    },
    "/v1/clusters/{name}": {
      delete: {
        summary: "Takes a pushed cluster away, with all of its hosts.",
        parameters: [clusterName],
        responses: {
          "200": json("It is gone.", object({ cluster: text, removed: flag })),
          "404": json("There is none.", ref("Error")),
          "405": json("This service takes no pushes.", ref("Error")),
          ...refused,
        },
      },
    },
    "/v1/clusters/{name}/state": {
      get: {
        summary: "What is known of a cluster.",
        parameters: [clusterName],
        responses: {
          "200": json("Its summary.", ref("Cluster")),
          "404": json("There is none.", ref("Error")),
          ...refused,
        },
      },
      put: {
        summary:
          "Replaces the whole state of a cluster: manifests in YAML, or what `kubectl get … -o json` prints.",
        parameters: [clusterName, query("wait", "`true`: answer once the edge has it.", flag)],
        requestBody: {
          required: true,
          content: {
            "application/json": { schema: { type: "object" } },
            "application/yaml": { schema: text },
          },
        },
        responses: {
          "200": json("The state was taken; objects that are wrong are named.", ref("Push")),
          "405": json("This service takes no pushes.", ref("Error")),
          "503": json("This replica does not lead; try again.", ref("Error")),
          "413": json("The state is too large.", ref("Error")),
          "422": json("The state is empty, or cannot be read to its end; nothing was changed.", ref("Error")),
          ...refused,
        },
      },
    },
    "/v1/generations": {
      get: {
        summary: "Generations that a rollback can bring back, newest first.",
        responses: { "200": json("The generations.", ref("Generations")), ...refused },
      },
    },
    "/v1/generations/{generation}/rollback": {
      post: {
        summary: "Brings an earlier generation back, and holds newer configurations until `resume`.",
        parameters: [
          { in: "path", name: "generation", required: true, schema: { type: "integer", minimum: 1 } },
        ],
        responses: {
          "200": json("It is back, under a new generation.", ref("Publisher")),
          "400": json("No number.", ref("Error")),
          "409": json("That generation is not kept.", ref("Error")),
          "502": json("KV failed.", ref("Error")),
          ...refused,
        },
      },
    },
    "/v1/generations/resume": {
      post: {
        summary: "Ends a rollback: the newest configuration is published.",
        responses: {
          "200": json("It will be.", ref("Publisher")),
          "502": json("KV failed.", ref("Error")),
          ...refused,
        },
      },
    },
  },
  components: {
    securitySchemes: { bearer: { type: "http", scheme: "bearer" } },
    schemas: {
      Error: object({ error: text, diagnostics: array(ref("Diagnostic")) }, ["error"]),
      Diagnostic: object(
        {
          cluster: text,
          severity: { enum: ["error", "warning", "info"] },
          kind: text,
          object: text,
          field: text,
          message: text,
        },
        ["severity", "kind", "object", "message"],
      ),
      Cluster: object(
        {
          name: text,
          receivedAt: time,
          objects: { type: "object", additionalProperties: count },
          problem: text,
        },
        ["name"],
      ),
      Publisher: object(
        {
          leading: flag,
          generation: count,
          epoch: count,
          createdAt: time,
          pinned: count,
          pending: flag,
          lastError: text,
        },
        ["leading", "pending"],
      ),
      Status: object(
        {
          ready: flag,
          reason: text,
          publisher: ref("Publisher"),
          clusters: array(ref("Cluster")),
          edge: object({
            hosts: count,
            backends: count,
            endpoints: count,
            diagnostics: { type: "object", additionalProperties: count },
          }),
        },
        ["ready", "publisher", "clusters"],
      ),
      Push: object(
        {
          cluster: text,
          objects: { type: "object", additionalProperties: count },
          diagnostics: array(ref("Diagnostic")),
          published: flag,
          generation: count,
          reason: text,
        },
        ["cluster", "objects", "diagnostics", "published"],
      ),
      Generations: object(
        {
          current: count,
          pinned: count,
          generations: array(object({ generation: count, epoch: count, createdAt: time })),
        },
        ["generations"],
      ),
    },
  },
};
