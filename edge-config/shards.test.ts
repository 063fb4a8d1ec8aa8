import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { edgeConfig, endpoints } from "../tests/kv/arbitrary-config.ts";
import { ANY_HOST, type Backend, type EdgeConfig, type HostConfig } from "./config.ts";
import { deriveConfigKeys } from "./config-keys.ts";
import { hostHash, indexDirectory } from "./directory.ts";
import { backendsOf, decodeHostRecord, type HostRecord } from "./host-record.ts";
import {
  decodePointer,
  encodePointer,
  type LoadedPointer,
  type Pointer,
  sameDirectory,
  shardsOf,
  supersedes,
  wildcardOf,
} from "./pointer.ts";
import type { BackendPolicies, EdgePolicies, HostPolicies, RoutePolicies } from "./policies.ts";
import { readShard } from "./shard.ts";
import { type ConfigDelta, cutShards, MAX_SHARD_BYTES, type ShardSet } from "./shards.ts";

const SMALL = 2_000; // Bytes a shard: dozens of shards out of small configurations.
const keys = await deriveConfigKeys("correct horse battery staple again");

async function pointerOf({ directory }: ShardSet): Promise<LoadedPointer> {
  const pointer: Pointer = {
    version: 1,
    generation: 1,
    epoch: 0,
    createdAt: "2026-11-23T10:00:00.000Z",
    ...directory,
  };
  const reading = await decodePointer(await encodePointer(pointer, keys), keys);
  if (reading.kind === "refused") throw new Error(reading.reason);
  return reading.loaded;
}

/** What a reader gets for a key of the configuration, by the way that a Worker goes. */
async function lookUp(set: ShardSet, pointer: LoadedPointer, key: string): Promise<HostRecord | undefined> {
  // A request for `x.example.com` asks for `*.example.com`; any label will do.
  const places = pointer.locate(key.startsWith("*.") ? `label${key.slice(1)}` : key);
  const name = key === ANY_HOST ? places.any : key.startsWith("*.") ? places.wildcard : places.exact;
  if (name === undefined) return undefined;
  const reading = await readShard(name, set.shards.get(name) ?? "");
  if (reading.kind === "refused") throw new Error(reading.reason);
  const line = reading.shard.record(key);
  return line === undefined ? undefined : decodeHostRecord(key, line, keys);
}

function shuffled<T>(record: Readonly<Record<string, T>>, seed: number): Record<string, T> {
  const entries = Object.entries(record).map(
    ([name, value], at) => [hostHash(`${seed}${at}`), name, value] as const,
  );
  entries.sort((left, right) => left[0] - right[0]);
  return Object.fromEntries(entries.map(([, name, value]) => [name, value]));
}

describe("cutShards", () => {
  test("every host of any configuration is found again, with its configuration and backends", async () => {
    await fc.assert(
      fc.asyncProperty(edgeConfig, async (config) => {
        const set = await cutShards(config, { keys, maxShardBytes: SMALL });
        const pointer = await pointerOf(set);
        for (const [name, host] of Object.entries(config.hosts)) {
          const found = await lookUp(set, pointer, name);
          expect(found?.config).toEqual(host);
          const wanted = [...backendsOf(host, (backend) => config.backends[backend])];
          expect([...(found?.backends ?? [])].sort()).toEqual(wanted.sort());
        }
        expect(await lookUp(set, pointer, "no-such-host.invalid")).toBeUndefined();
      }),
      { numRuns: 150 },
    );
  });

  test("the order of hosts and backends does not show in the bytes", async () => {
    await fc.assert(
      fc.asyncProperty(edgeConfig, fc.nat(), async (config, seed) => {
        const other = {
          ...config,
          hosts: shuffled(config.hosts, seed),
          backends: shuffled(config.backends, seed),
        };
        const [one, two] = await Promise.all([
          cutShards(config, { keys, maxShardBytes: SMALL }),
          cutShards(other, { keys, maxShardBytes: SMALL }),
        ]);
        expect(two.directory).toEqual(one.directory);
        expect(new Map([...two.shards].sort())).toEqual(new Map([...one.shards].sort()));
      }),
      { numRuns: 100 },
    );
  });

  test("a cut that follows another one equals the cut made from nothing", async () => {
    await fc.assert(
      fc.asyncProperty(edgeConfig, edgeConfig, fc.nat(), async (first, second, pick) => {
        // `second` shares about half of its objects with `first`, as a compiler that keeps unchanged objects would.
        const keep = (name: string): boolean => (hostHash(name) + pick) % 2 === 0;
        const merged = {
          version: 1,
          hosts: {
            ...second.hosts,
            ...Object.fromEntries(Object.entries(first.hosts).filter(([name]) => keep(name))),
          },
          backends: { ...first.backends, ...second.backends },
        } as const;
        const previous = await cutShards(first, { keys, maxShardBytes: SMALL });
        const warm = await cutShards(merged, { keys, maxShardBytes: SMALL, previous });
        const cold = await cutShards(merged, { keys, maxShardBytes: SMALL });
        expect(warm.directory).toEqual(cold.directory);
        expect(warm.shards).toEqual(cold.shards);
      }),
      { numRuns: 150 },
    );
  });

  test("a cut by a delta equals the cut made from nothing, and so does the next one", async () => {
    await fc.assert(
      fc.asyncProperty(
        edgeConfig,
        fc.array(fc.array(fc.tuple(fc.nat(), endpoints, fc.option(fc.nat())), { maxLength: 3 }), {
          minLength: 1,
          maxLength: 4,
        }),
        async (first, steps) => {
          let config = first;
          let set = await cutShards(config, { keys, maxShardBytes: SMALL });
          for (const step of steps) {
            const names = Object.keys(config.backends);
            const backends = new Map<string, Backend>();
            for (const [pick, list, other] of step) {
              const name = names[pick % Math.max(1, names.length)];
              const backend = name === undefined ? undefined : config.backends[name];
              if (name === undefined || backend === undefined) continue;
              const { policies: _, ...plain } = backend;
              // A policy that names a further backend, which the record lacked so far.
              const policies = { page: { backend: names[(other ?? 0) % names.length] } } as BackendPolicies;
              backends.set(name, { ...plain, endpoints: list, ...(other === null ? {} : { policies }) });
            }
            // Hosts that lose a route, and one that goes or comes with the others' places.
            const hosts = new Map<string, HostConfig | undefined>();
            const hostNames = Object.keys(config.hosts);
            for (const [pick, , other] of step) {
              const name = hostNames[(pick >>> 3) % Math.max(1, hostNames.length)];
              const host = name === undefined ? undefined : config.hosts[name];
              if (name === undefined || host === undefined || pick % 3 !== 0) continue;
              hosts.set(name, pick % 2 === 0 ? { ...host, routes: host.routes.slice(1) } : undefined);
              if (other === null && pick % 5 === 0) hosts.set(`new-${pick}.example`, host);
            }
            const next: EdgeConfig = {
              ...config,
              hosts: Object.fromEntries(
                Object.entries<HostConfig | undefined>({
                  ...config.hosts,
                  ...Object.fromEntries(hosts),
                }).filter((entry): entry is [string, HostConfig] => entry[1] !== undefined),
              ),
              backends: { ...config.backends, ...Object.fromEntries(backends) },
            };
            const options = { keys, maxShardBytes: SMALL };
            set = await cutShards(next, {
              ...options,
              previous: set,
              delta: { since: config, hosts, backends, backend: (name) => next.backends[name] },
            });
            const anew = await cutShards(next, options);
            expect(set.directory).toEqual(anew.directory);
            expect([...set.shards]).toEqual([...anew.shards]);
            config = next;
          }
        },
      ),
    );
  });

  test("a delta since another configuration than the one that was cut does not count", async () => {
    const config = manyHosts(20);
    const [name = "", backend] = Object.entries(config.backends)[3] ?? [];
    const changed = { ...(backend as Backend), endpoints: ["10.9.9.9:1"] };
    const next = { ...config, backends: { ...config.backends, [name]: changed } };
    const previous = await cutShards(config);
    const delta: ConfigDelta = {
      since: manyHosts(20),
      hosts: new Map(),
      backends: new Map(),
      backend: (found: string) => config.backends[found],
    };
    const set = await cutShards(next, { previous, delta });
    expect([...set.shards.values()].join()).toContain("10.9.9.9:1");
  });

  test("shards stay below the bound unless they hold one host, and the directory names exactly them", async () => {
    await fc.assert(
      fc.asyncProperty(edgeConfig, async (config) => {
        const set = await cutShards(config, { keys, maxShardBytes: SMALL });
        expect([...set.shards.keys()].sort()).toEqual([...shardsOf(set.directory)].sort());
        for (const [name, text] of set.shards) {
          const reading = await readShard(name, text);
          if (reading.kind === "refused") throw new Error(reading.reason);
          if (reading.shard.hosts().length > 1) expect(text.length).toBeLessThanOrEqual(SMALL + 40);
          expect(/^[\x20-\x7e\n]*$/.test(text)).toBe(true);
        }
      }),
      { numRuns: 100 },
    );
  });

  test("one changed endpoint changes one shard", async () => {
    const config = manyHosts(400);
    const before = await cutShards(config, { maxShardBytes: 20_000 });
    expect(before.shards.size).toBeGreaterThan(4);
    await fc.assert(
      fc.asyncProperty(fc.nat(399), endpoints, async (at, list) => {
        const name = `shop-web${at}-80`;
        const backend = {
          namespace: "shop",
          service: `web${at}`,
          port: "80",
          endpoints: [...list, "10.9.9.9:1"],
        };
        const changed = { ...config, backends: { ...config.backends, [name]: backend } };
        const after = await cutShards(changed, { maxShardBytes: 20_000, previous: before });
        if (after.directory.exact.length !== before.directory.exact.length) return; // A shard at its bound was cut anew.
        expect([...after.shards.keys()].filter((shard) => !before.shards.has(shard))).toHaveLength(1);
      }),
      { numRuns: 50 },
    );
  });

  test("10 000 hosts make shards within the bound and a pointer of a few kilobytes", async () => {
    const set = await cutShards(manyHosts(10_000));
    for (const text of set.shards.values()) expect(text.length).toBeLessThanOrEqual(MAX_SHARD_BYTES);
    const pointer: Pointer = {
      version: 1,
      generation: 1,
      epoch: 0,
      createdAt: "2026-11-23T10:00:00.000Z",
      ...set.directory,
    };
    expect((await encodePointer(pointer, keys)).length).toBeLessThan(4_096);
  });

  test("routes with equal policies share one object after reading", async () => {
    const cors = (): RoutePolicies => ({
      cors: {
        allowOrigins: ["*"],
        allowMethods: "GET",
        allowHeaders: "",
        allowCredentials: true,
        maxAgeSeconds: 1,
      },
    });
    const set = await cutShards(oneHost(["/a", "/b"].map((path) => ({ path, policies: cors() }))));
    const { config } = (await lookUp(set, await pointerOf(set), "shop.example")) as HostRecord;
    expect(config.routes[0]?.policies).toEqual(cors());
    expect(config.routes[0]?.policies).toBe(config.routes[1]?.policies);
  });

  test("a backend that only a policy names is in the record as soon as it exists", async () => {
    const policies = { canary: { backend: "shop-next-80", weight: 10 } } as unknown as RoutePolicies;
    const config = oneHost([{ path: "/", policies }]);
    const before = await cutShards(config);
    expect([
      ...((await lookUp(before, await pointerOf(before), "shop.example"))?.backends.keys() ?? []),
    ]).toEqual(["shop-web-80"]);
    const next = { namespace: "shop", service: "next", port: "80", endpoints: ["10.0.0.2:80"] };
    const after = await cutShards(
      { ...config, backends: { ...config.backends, "shop-next-80": next } },
      { previous: before },
    );
    expect(
      (await lookUp(after, await pointerOf(after), "shop.example"))?.backends.get("shop-next-80"),
    ).toEqual(next);
  });
});

test("what holds for the whole edge travels with the pointer", async () => {
  const policies = { hsts: { maxAgeSeconds: 1 } } as unknown as EdgePolicies;
  const set = await cutShards({ ...manyHosts(1), policies });
  expect((await pointerOf(set)).pointer.policies).toEqual(policies);
  expect(sameDirectory(set.directory, (await cutShards(manyHosts(1))).directory)).toBe(false);
});

test("the backend that a backend's policy names comes along", async () => {
  const config = oneHost([{ path: "/", policies: undefined }]);
  const web = config.backends["shop-web-80"];
  if (web === undefined) throw new Error("oneHost changed");
  const canary = { canary: { backend: "shop-next-80" } } as unknown as BackendPolicies;
  const next = { ...web, service: "next" };
  const set = await cutShards({
    ...config,
    backends: { "shop-web-80": { ...web, policies: canary }, "shop-next-80": next },
  });
  expect((await lookUp(set, await pointerOf(set), "shop.example"))?.backends.get("shop-next-80")).toEqual(
    next,
  );
});

describe("secrets", () => {
  const users = "admin:$apr1$ODHl5EPB$KJ2fgPvmVQ5RXmyi2MhXf.";
  const guarded = {
    basicAuth: { realm: "staff", users: { kind: "secret", text: users } },
  } as unknown as RoutePolicies;
  const config = oneHost([
    { path: "/staff", policies: guarded },
    { path: "/", policies: undefined },
  ]);

  test("stand sealed in the shard and open again with the key", async () => {
    const set = await cutShards(config, { keys });
    expect([...set.shards.values()].join()).not.toContain("apr1");
    expect((await lookUp(set, await pointerOf(set), "shop.example"))?.config).toEqual(
      config.hosts["shop.example"],
    );
  });

  test("equal input gives equal bytes, another host other ones", async () => {
    const [one, two] = await Promise.all([
      cutShards(config, { keys }),
      cutShards(structuredClone(config), { keys }),
    ]);
    expect(two.shards).toEqual(one.shards);
    expect(await keys.seal(users, "a.example")).not.toBe(await keys.seal(users, "b.example"));
    expect(await keys.open(await keys.seal(users, "a.example"), "b.example")).toBeUndefined();
  });

  test("without a key their routes are denied and nothing is written in clear", async () => {
    const set = await cutShards(config);
    expect([...set.shards.values()].join()).not.toContain("apr1");
    const found = (await lookUp(set, await pointerOf(set), "shop.example")) as HostRecord;
    expect(found.config.routes.map((route) => [route.path, route.denied !== undefined])).toEqual([
      ["/staff", true],
      ["/", false],
    ]);
  });

  test.each([
    ["no key", undefined],
    ["another key", "k".repeat(32)],
  ])("a reader with %s denies the routes that need them and no others", async (_, readerKey) => {
    const readerKeys = readerKey === undefined ? undefined : await deriveConfigKeys(readerKey);
    const set = await cutShards(config, { keys });
    const [text = ""] = set.shards.values();
    const [name = "s/"] = set.shards.keys();
    const reading = await readShard(name as `s/${string}`, text);
    if (reading.kind === "refused") throw new Error(reading.reason);
    const record = await decodeHostRecord(
      "shop.example",
      reading.shard.record("shop.example") ?? "",
      readerKeys,
    );
    expect(record.config.routes[0]?.denied).toContain("FAIRLEAD_CONFIG_KEY");
    expect(record.config.routes[0]?.policies).toBeUndefined();
    expect(record.config.routes[1]?.denied).toBeUndefined();
  });

  test("of a host deny the host, those of a backend take its endpoints", async () => {
    const secret = { guard: { kind: "secret", text: users } };
    const closed = {
      ...config,
      hosts: {
        "shop.example": { matching: "kubernetes", routes: [], policies: secret as unknown as HostPolicies },
      },
    } as const;
    const web = config.backends["shop-web-80"];
    if (web === undefined) throw new Error("oneHost changed");
    const tls = {
      ...config,
      backends: { "shop-web-80": { ...web, policies: secret as unknown as BackendPolicies } },
    };
    for (const writerKeys of [undefined, await deriveConfigKeys("k".repeat(32))]) {
      const hostSet = await cutShards(closed, { keys: writerKeys });
      expect((await lookUp(hostSet, await pointerOf(hostSet), "shop.example"))?.config).toMatchObject({
        denied: expect.stringContaining("FAIRLEAD_CONFIG_KEY"),
      });
      const backendSet = await cutShards(tls, { keys: writerKeys });
      const found = await lookUp(backendSet, await pointerOf(backendSet), "shop.example");
      expect(found?.backends.get("shop-web-80")).toEqual({ ...web, endpoints: [] });
      expect([...hostSet.shards.values(), ...backendSet.shards.values()].join()).not.toContain("apr1");
    }
    const right = await cutShards(tls, { keys });
    expect(
      (await lookUp(right, await pointerOf(right), "shop.example"))?.backends.get("shop-web-80"),
    ).toEqual(tls.backends["shop-web-80"]);
  });

  test("during a rotation, either key opens and verifies", async () => {
    const [older, newer] = ["o".repeat(32), "n".repeat(32)];
    const [writer, reader] = await Promise.all([
      deriveConfigKeys(newer),
      deriveConfigKeys(`${older}, ${newer}`),
    ]);
    expect(await reader.open(await writer.seal("x", "host"), "host")).toBe("x");
    expect(await reader.verify("text", await writer.sign("text"))).toBe(true);
    await expect(deriveConfigKeys("short")).rejects.toThrow("at least 32");
  });
});

describe("readShard", () => {
  test("refuses a text of which any character differs", async () => {
    const set = await cutShards(manyHosts(5));
    const [[name, text] = ["s/", ""] as const] = set.shards;
    await fc.assert(
      fc.asyncProperty(
        fc.nat(text.length - 1),
        fc.constantFrom("x", "", "é", "\u0000"),
        async (at, other) => {
          fc.pre(text[at] !== other);
          const torn = text.slice(0, at) + other + text.slice(at + 1);
          expect((await readShard(name, torn)).kind).toBe("refused");
        },
      ),
    );
    expect((await readShard(name, "")).kind).toBe("refused");
  });
});

describe("the pointer", () => {
  const pointer: Pointer = {
    version: 1,
    generation: 7,
    epoch: 3,
    createdAt: "2026-11-23T10:00:00.000Z",
    exact: [["0", `s/${"a".repeat(32)}`]],
    wildcard: [],
  };

  test("is refused when unsigned or changed, and the reason says so", async () => {
    const unsigned = await encodePointer(pointer, undefined);
    const signed = await encodePointer(pointer, keys);
    expect((await decodePointer(signed, keys)).kind).toBe("pointer");
    expect((await decodePointer(signed, undefined)).kind).toBe("pointer");
    expect(await decodePointer(unsigned, keys)).toMatchObject({
      kind: "refused",
      reason: expect.stringContaining("not signed"),
    });
    const forged = signed.replace('"generation":7', '"generation":8');
    expect(await decodePointer(forged, keys)).toMatchObject({
      kind: "refused",
      reason: expect.stringContaining("signature"),
    });
  });

  test.each([
    ["no JSON", "{"],
    ["null", "null"],
    ["another version", '{"version":2}'],
    ["a negative generation", JSON.stringify({ ...pointer, generation: -1 })],
    ["no time", JSON.stringify({ ...pointer, createdAt: "today" })],
    ["a name that is no shard", JSON.stringify({ ...pointer, exact: [["", "../secrets"]] })],
    ["a prefix that is no bits", JSON.stringify({ ...pointer, exact: [["2", pointer.exact[0]?.[1]]] })],
    [
      "overlapping prefixes",
      JSON.stringify({
        ...pointer,
        exact: [
          ["0", pointer.exact[0]?.[1]],
          ["01", pointer.exact[0]?.[1]],
        ],
      }),
    ],
    [
      "prefixes out of order",
      JSON.stringify({
        ...pointer,
        exact: [
          ["1", pointer.exact[0]?.[1]],
          ["0", pointer.exact[0]?.[1]],
        ],
      }),
    ],
  ])("is refused with %s", async (_, text) => {
    expect((await decodePointer(text, undefined)).kind).toBe("refused");
  });

  test("never throws, whatever text comes", async () => {
    await fc.assert(
      fc.asyncProperty(fc.oneof(fc.string(), fc.json()), async (text) => {
        await decodePointer(text, keys);
        await decodePointer(text, undefined);
      }),
    );
  });

  test("order is told by epoch, then by time", () => {
    const later = { ...pointer, createdAt: "2026-11-23T10:00:01.000Z" };
    expect(supersedes(later, pointer)).toBe(true);
    expect(supersedes(pointer, later)).toBe(false);
    expect(supersedes(pointer, pointer)).toBe(false);
    expect(supersedes({ ...later, epoch: 2 }, pointer)).toBe(false);
    expect(supersedes({ ...pointer, epoch: 4, createdAt: "2020-01-01T00:00:00.000Z" }, pointer)).toBe(true);
  });
});

test("indexDirectory finds the prefix of every hash, and nothing in the holes", () => {
  const find = indexDirectory([
    ["00", "a"],
    ["1", "b"],
  ]).find;
  for (let n = 0; n < 2_000; n++) {
    const host = `host${n}.example`;
    const bits = hostHash(host).toString(2).padStart(32, "0");
    expect(find(host)).toBe(bits.startsWith("00") ? "a" : bits.startsWith("1") ? "b" : undefined);
  }
});

test("wildcardOf takes off one label", () => {
  expect(wildcardOf("shop.example.com")).toBe("*.example.com");
  expect(wildcardOf("localhost")).toBeUndefined();
  expect(wildcardOf(".com")).toBeUndefined();
});

function oneHost(
  routes: readonly { readonly path: string; readonly policies: RoutePolicies | undefined }[],
): EdgeConfig {
  return {
    version: 1,
    hosts: {
      "shop.example": {
        matching: "kubernetes",
        routes: routes.map(({ path, policies }) => ({
          path,
          pathType: "Prefix",
          ingress: "shop/web",
          backend: "shop-web-80",
          ...(policies === undefined ? {} : { policies }),
        })),
      },
    },
    backends: {
      "shop-web-80": { namespace: "shop", service: "web", port: "80", endpoints: ["10.0.0.1:80"] },
    },
  };
}

function manyHosts(count: number): EdgeConfig {
  const hosts: Record<string, EdgeConfig["hosts"][string]> = {};
  const backends: Record<string, EdgeConfig["backends"][string]> = {};
  for (let n = 0; n < count; n++) {
    const backend = `shop-web${n}-80`;
    const list = [1, 2, 3, 4, 5].map((d) => `10.${n >> 8}.${n & 255}.${d}:8080`);
    backends[backend] = { namespace: "shop", service: `web${n}`, port: "80", endpoints: list };
    hosts[`host${n}.shop.example`] = {
      matching: "kubernetes",
      routes: [{ path: "/", pathType: "Prefix", ingress: `shop/web${n}`, backend }],
    };
  }
  return { version: 1, hosts, backends };
}
