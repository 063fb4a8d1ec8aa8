/** Flags and variables of `fairlead control`, as settings. */

import { expect, test } from "vitest";
import { readSettings } from "./control.ts";

type Flags = Parameters<typeof readSettings>[0];

const FLAGS = {
  kvApi: "http://127.0.0.1:8787/api",
  kvNamespace: "edge",
  listen: { host: "127.0.0.1", port: 0 },
  maxBody: 1,
  callBudget: 1_200,
  compat: "kubernetes",
  log: "json",
} as Flags;

test("there are no traces unless a collector is named, or where OpenTelemetry is switched off", async () => {
  expect((await readSettings(FLAGS, {})).traces).toBeUndefined();
  const environment = { OTEL_EXPORTER_OTLP_ENDPOINT: "http://collector:4318/", OTEL_SDK_DISABLED: "true" };
  expect((await readSettings(FLAGS, environment)).traces).toBeUndefined();
});

test("traces follow OpenTelemetry's own variables", async () => {
  const { traces } = await readSettings(FLAGS, {
    OTEL_EXPORTER_OTLP_ENDPOINT: "http://collector:4318/",
    OTEL_EXPORTER_OTLP_HEADERS: "x-team=edge,authorization=Bearer%20abc",
  });
  expect(traces).toEqual({
    url: "http://collector:4318/v1/traces",
    headers: { "x-team": "edge", authorization: "Bearer abc" },
    serviceName: "fairlead-control",
  });
  const own = await readSettings(FLAGS, {
    OTEL_EXPORTER_OTLP_ENDPOINT: "http://collector:4318",
    OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: "https://traces/in",
    OTEL_SERVICE_NAME: "eu",
  });
  expect(own.traces).toEqual({ url: "https://traces/in", headers: {}, serviceName: "eu" });
});

test.each([
  ["an endpoint that is no URL", { OTEL_EXPORTER_OTLP_ENDPOINT: "collector:4318" }, "takes a URL"],
  [
    "headers that are no pairs",
    { OTEL_EXPORTER_OTLP_ENDPOINT: "http://c", OTEL_EXPORTER_OTLP_HEADERS: "edge" },
    "takes name=value pairs",
  ],
  ["a short operator's token", { FAIRLEAD_CONTROL_TOKEN: "short" }, "at least 16 are needed"],
] as const)("%s is wrong usage", async (_, environment, sentence) => {
  await expect(readSettings(FLAGS, environment)).rejects.toThrow(sentence);
});

test("on other addresses than loopback nobody goes without a token, and no token goes in the clear", async () => {
  const open = { ...FLAGS, listen: { host: "::", port: 8788 } };
  await expect(readSettings(open, {})).rejects.toThrow("FAIRLEAD_CONTROL_TOKEN is not set");
  const remote = { ...FLAGS, kvApi: "http://kv.example.com" };
  await expect(readSettings(remote, {})).rejects.toThrow("FAIRLEAD_KV_TOKEN is not set");
  await expect(readSettings(remote, { FAIRLEAD_KV_TOKEN: "t".repeat(40) })).rejects.toThrow("must be https");
});

test("against Cloudflare the budget of calls holds; the local KV has none", async () => {
  const cloudflare = { ...FLAGS, kvApi: "https://api.cloudflare.com/client/v4/accounts/a" };
  const { kv } = await readSettings(cloudflare, { FAIRLEAD_KV_TOKEN: "t".repeat(40) });
  expect(kv.callsInFiveMinutes).toBe(1_200);
  expect((await readSettings(FLAGS, {})).kv.callsInFiveMinutes).toBe(Number.POSITIVE_INFINITY);
});
