/** Traces as a collector gets them, over HTTP. */

import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { json } from "node:stream/consumers";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { PublisherEvent } from "./kv/publisher.ts";
import { createTraces } from "./traces.ts";

interface SpanSeen {
  readonly name: string;
  readonly traceId: string;
  readonly spanId: string;
  readonly parentSpanId?: string;
  readonly startTimeUnixNano: string;
  readonly endTimeUnixNano: string;
}

let status = 200;
const collector = createServer(async (request, response) => {
  const body = await json(request);
  response.writeHead(status).end("{}", () => collector.emit("trace", body, request.headers));
});
let url: string;

beforeAll(async () => {
  await new Promise<void>((resolve) => collector.listen(0, "127.0.0.1", resolve));
  url = `http://127.0.0.1:${(collector.address() as AddressInfo).port}/v1/traces`;
});
afterAll(() => collector.close());

const published = {
  kind: "published",
  result: { kind: "published", pointer: { generation: 7 }, writtenShards: ["s/1"], writtenBytes: 300 },
  timings: { gatherMs: 495, compileMs: 5, waitedMs: 20, cutMs: 3, writeMs: 40 },
} as unknown as PublisherEvent;

test("a publication is one trace, whose parts lie within it", async () => {
  const traces = createTraces({ url, headers: { "x-team": "edge" }, serviceName: "control" }, () => {});
  const seen = once(collector, "trace");
  traces.publisherEvent(published);
  const [body, headers] = (await seen) as [
    { resourceSpans: [{ scopeSpans: [{ spans: readonly SpanSeen[] }] }] },
    Record<string, string>,
  ];
  expect(headers["x-team"]).toBe("edge");
  expect(JSON.stringify(body)).toContain('{"key":"fairlead.generation","value":{"intValue":"7"}}');
  const [root, ...parts] = body.resourceSpans[0].scopeSpans[0].spans;
  expect(root?.name).toBe("change");
  expect(parts.map(({ name }) => name)).toEqual(["gather", "compile", "wait", "cut", "write"]);
  for (const part of parts) {
    expect([part.traceId, part.parentSpanId]).toEqual([root?.traceId, root?.spanId]);
    expect(BigInt(part.startTimeUnixNano)).toBeGreaterThanOrEqual(BigInt(root?.startTimeUnixNano ?? 0));
    expect(BigInt(part.endTimeUnixNano)).toBeLessThanOrEqual(BigInt(root?.endTimeUnixNano ?? 0));
  }
  expect(root?.traceId).toMatch(/^[0-9a-f]{32}$/);
});

test("a collector that fails is told of once, until it is back", async () => {
  const failures: string[] = [];
  const told = Promise.withResolvers<void>();
  const traces = createTraces({ url, headers: {}, serviceName: "control" }, (sentence) => {
    failures.push(sentence);
    told.resolve();
  });
  status = 503;
  for (let round = 0; round < 2; round++) {
    const seen = once(collector, "trace");
    traces.publisherEvent(published);
    await seen;
    await told.promise;
  }
  expect(failures).toEqual(["traces cannot be sent: the collector answered 503"]);
  status = 200;
});
