/** A model that follows changes is the model that is made of all objects at once. */

import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { buildClusterModel } from "../build.ts";
import type { ClusterModel } from "../model.ts";
import { parseObject } from "../objects/parse.ts";
import type { WatchedKind } from "./kinds.ts";
import { createLiveModel } from "./live-model.ts";
import { type RawObject, rawName } from "./reflector.ts";

interface Change {
  readonly kind: "Ingress" | "Service" | "EndpointSlice";
  readonly name: string;
  readonly service: string;
  /** 0 deletes. */
  readonly port: number;
}

const change: fc.Arbitrary<Change> = fc.record({
  kind: fc.constantFrom("Ingress", "Service", "EndpointSlice"),
  name: fc.constantFrom("a", "b", "c", "d", "e"),
  service: fc.constantFrom("a", "b"),
  port: fc.integer({ min: 0, max: 3 }),
});

function rawOf({ kind, name, service, port }: Change, version: number): RawObject {
  const metadata = { name, namespace: "shop", uid: `${kind}-${name}`, resourceVersion: String(version) };
  switch (kind) {
    case "Ingress":
      return {
        apiVersion: "networking.k8s.io/v1",
        kind,
        metadata,
        spec: { defaultBackend: { service: { name: service, port: { number: port } } } },
      } as RawObject;
    case "Service":
      return { apiVersion: "v1", kind, metadata, spec: { ports: [{ port }] } } as RawObject;
    case "EndpointSlice":
      return {
        apiVersion: "discovery.k8s.io/v1",
        kind,
        metadata: { ...metadata, labels: { "kubernetes.io/service-name": service } },
        addressType: "IPv4",
        ports: [{ port }],
        endpoints: [{ addresses: [`10.0.0.${port}`] }],
      } as RawObject;
  }
}

function withoutVersion(raw: RawObject): unknown {
  const { resourceVersion: _, ...metadata } = raw.metadata;
  return { ...raw, metadata };
}

describe("createLiveModel", () => {
  test("any changes, in any order, with a look in between: the same model as of all objects at once", () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(change, fc.boolean()), { maxLength: 40 }), (changes) => {
        const live = createLiveModel();
        const there = new Map<string, RawObject>();
        changes.forEach(([one, look], version) => {
          const raw = rawOf(one, version);
          if (one.port === 0) {
            there.delete(`${one.kind} ${rawName(raw)}`);
            live.delete(one.kind, rawName(raw));
          } else {
            there.set(`${one.kind} ${rawName(raw)}`, raw);
            live.put(one.kind, rawName(raw), raw);
          }
          if (look) live.snapshot();
        });
        const objects = [...there.values()].flatMap((raw) => parseObject(withoutVersion(raw)).objects);
        const { model } = live.snapshot();
        const built = buildClusterModel(objects).model;
        // As lists, which have an order.
        for (const map of Object.keys(built) as (keyof ClusterModel)[])
          expect([...model[map]]).toEqual([...built[map]]);
      }),
    );
  });

  test("an object that was touched and means the same stays the very same, and so do the maps", () => {
    const live = createLiveModel();
    const one = { kind: "Ingress", name: "a", service: "a", port: 1 } as const;
    expect(live.put("Ingress", "shop/a", rawOf(one, 1))).toBe(true);
    const before = live.snapshot();
    expect(live.put("Ingress", "shop/a", rawOf(one, 2))).toBe(false);
    expect(live.snapshot().model.ingresses).toBe(before.model.ingresses);
  });

  test("what cannot be read is told, takes the object out, and is forgotten with it", () => {
    const live = createLiveModel();
    const good = rawOf({ kind: "Service", name: "a", service: "a", port: 1 }, 1);
    const bad = { ...good, spec: { ports: "none" } } as RawObject;
    const kind: WatchedKind = "Service";
    live.put(kind, "shop/a", good);
    expect(live.put(kind, "shop/a", bad)).toBe(true);
    const { model, diagnostics } = live.snapshot();
    expect([...model.services.keys()]).toEqual([]);
    expect(diagnostics.map(({ severity, object }) => [severity, object])).toEqual([["error", "shop/a"]]);
    live.delete(kind, "shop/a");
    expect(live.snapshot().diagnostics).toEqual([]);
  });
});
