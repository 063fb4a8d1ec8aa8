/**
 * Traces of publications: from the arrival of a change to its finished write, where did the time go.
 *
 * In: the times that the publisher tells anyway. Out: one trace a publication in OTLP over HTTP with
 * JSON (OpenTelemetry protocol 1.x, `POST <endpoint>/v1/traces`), sent beside the work and never waited for: a collector
 * that is slow or gone costs traces and nothing else.
 *
 *     change ─┬─ gather   from the first change of a state to its compilation
 *             ├─ compile
 *             ├─ wait     for the burst to be over, for the budget, and for the publication before
 *             ├─ cut      into shards
 *             └─ write    to KV: shards, then the pointer
 */

import { randomBytes } from "node:crypto";
import type { PublisherEvent } from "./kv/publisher.ts";

export interface TraceSettings {
  /** The whole URL. */
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly serviceName: string;
}

export interface Traces {
  readonly publisherEvent: (event: PublisherEvent) => void;
}

interface Span {
  readonly name: string;
  readonly startMs: number;
  readonly endMs: number;
}

/** While so many are under way, no more are sent. */
const MOST_UNDER_WAY = 8;
const TIMEOUT_MS = 10_000;
const SPAN_KIND_INTERNAL = 1;

export function createTraces(
  { url, headers, serviceName }: TraceSettings,
  onFailure: (sentence: string) => void,
): Traces {
  let underWay = 0;
  let hasFailed = false;

  const send = async (
    spans: readonly Span[],
    attributes: Readonly<Record<string, number>>,
  ): Promise<void> => {
    const response = await fetch(url, {
      method: "POST",
      headers: { ...headers, "content-type": "application/json" },
      body: JSON.stringify(requestOf(serviceName, spans, attributes)),
      signal: AbortSignal.timeout(TIMEOUT_MS),
    });
    await response.body?.cancel();
    if (!response.ok) throw new Error(`the collector answered ${response.status}`);
  };

  return {
    publisherEvent: (event) => {
      if (event.kind !== "published") return;
      const { gatherMs, compileMs, waitedMs, cutMs, writeMs } = event.timings;
      const stages = { gather: gatherMs, compile: compileMs, wait: waitedMs, cut: cutMs, write: writeMs };
      const endMs = Date.now();
      // One after the other, up to now.
      const children: Span[] = [];
      let startMs = endMs;
      for (const [name, ms] of Object.entries(stages).reverse()) {
        if (ms === undefined) continue;
        children.unshift({ name, startMs: startMs - ms, endMs: startMs });
        startMs -= ms;
      }
      if (underWay >= MOST_UNDER_WAY) return;
      underWay++;
      send([{ name: "change", startMs, endMs }, ...children], {
        "fairlead.generation": event.result.pointer.generation,
        "fairlead.shards": event.result.writtenShards.length,
        "fairlead.bytes": event.result.writtenBytes,
      })
        .then(
          () => {
            hasFailed = false;
          },
          (error: unknown) => {
            // Once for a whole outage.
            if (!hasFailed)
              onFailure(`traces cannot be sent: ${error instanceof Error ? error.message : String(error)}`);
            hasFailed = true;
          },
        )
        .finally(() => {
          underWay--;
        });
    },
  };
}

/** An ExportTraceServiceRequest; the first span is the parent of all others and carries the attributes. */
function requestOf(
  serviceName: string,
  [root, ...children]: readonly Span[],
  attributes: Readonly<Record<string, number>>,
): unknown {
  const traceId = randomBytes(16).toString("hex");
  const rootId = randomBytes(8).toString("hex");
  const print = (span: Span, spanId: string): Record<string, unknown> => ({
    traceId,
    spanId,
    name: span.name,
    kind: SPAN_KIND_INTERNAL,
    startTimeUnixNano: nanoseconds(span.startMs),
    endTimeUnixNano: nanoseconds(Math.max(span.startMs, span.endMs)),
  });
  const spans =
    root === undefined
      ? []
      : [
          {
            ...print(root, rootId),
            attributes: Object.entries(attributes).map(([key, value]) => ({
              key,
              value: { intValue: String(value) },
            })),
          },
          ...children.map((span) => ({
            ...print(span, randomBytes(8).toString("hex")),
            parentSpanId: rootId,
          })),
        ];
  return {
    resourceSpans: [
      {
        resource: { attributes: [{ key: "service.name", value: { stringValue: serviceName } }] },
        scopeSpans: [{ scope: { name: "fairlead.control" }, spans }],
      },
    ],
  };
}

function nanoseconds(ms: number): string {
  return `${BigInt(Math.round(ms * 1_000)) * 1_000n}`;
}
