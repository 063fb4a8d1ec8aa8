import { describe, expect, test } from "vitest";
import type { Exchange } from "../exchange.ts";
import { BackendPool } from "./backend-pool.ts";
import { BackendPools } from "./backend-pools.ts";
import type { Balancer, Endpoint } from "./balancer.ts";
import { roundRobin } from "./round-robin.ts";

const request = {} as Exchange; // Round robin does not look at it.
const endpoints = (count: number): readonly Endpoint[] =>
  Array.from({ length: count }, (_, at) => ({ address: `10.0.0.${at}:80` }));
const picks = (balancer: Balancer, count: number): readonly string[] =>
  Array.from({ length: count }, () => balancer.pick(request, [])?.address ?? "none");

test.each([1, 2, 3, 5, 7])("%i equal endpoints take turns, from wherever it starts", (count) => {
  for (const random of [0, 0.3, 0.6, 0.999]) {
    const balancer = roundRobin(endpoints(count), undefined, () => random);
    const first = picks(balancer, count);
    expect(new Set(first).size).toBe(count);
    expect(picks(balancer, count)).toEqual(first);
    expect(first[0]).toBe(`10.0.0.${Math.floor(random * count)}:80`);
  }
});

test("weights are kept exactly, and turns are spread: nginx's 5, 1, 1", () => {
  const weights = [5, 1, 1];
  const all = endpoints(3);
  const balancer = roundRobin(
    all,
    (endpoint) => weights[all.indexOf(endpoint)] ?? 1,
    () => 0,
  );
  expect(picks(balancer, 7).map((address) => address[7])).toEqual(["0", "0", "1", "0", "2", "0", "0"]);
  const counts = new Map<string, number>();
  for (const address of picks(balancer, 700)) counts.set(address, (counts.get(address) ?? 0) + 1);
  expect([...counts.values()].sort()).toEqual([100, 100, 500]);
});

describe.each([
  ["equal weights", undefined],
  ["unequal weights", (endpoint: Endpoint) => (endpoint.address === "10.0.0.0:80" ? 3 : 1)],
])("%s", (_name, weightOf) => {
  test("never picks one that was tried, and nothing when all were", () => {
    const all = endpoints(3);
    const balancer = roundRobin(all, weightOf);
    const tried: Endpoint[] = [];
    for (let attempt = 0; attempt < 3; attempt++) {
      const endpoint = balancer.pick(request, tried);
      expect(endpoint).toBeDefined();
      if (endpoint === undefined) return;
      expect(tried).not.toContain(endpoint);
      tried.push(endpoint);
    }
    expect(balancer.pick(request, tried)).toBeUndefined();
  });

  test("has nothing to pick without endpoints", () => {
    expect(roundRobin([], weightOf).pick(request, [])).toBeUndefined();
  });
});

describe("BackendPool", () => {
  const backend = (...addresses: readonly string[]) => ({
    namespace: "default",
    service: "web",
    port: "80",
    endpoints: addresses,
  });

  test("endpoints that stay keep their objects", () => {
    const pool = new BackendPool("default-web-80", backend("10.0.0.1:80", "10.0.0.2:80"));
    const [first] = pool.endpoints;
    pool.update(backend("10.0.0.1:80", "10.0.0.3:80"));
    expect(pool.endpoints.map(({ address }) => address)).toEqual(["10.0.0.1:80", "10.0.0.3:80"]);
    expect(pool.endpoints[0]).toBe(first);
  });

  test("the same description again changes nothing: turns go on", () => {
    const pool = new BackendPool("default-web-80", backend("10.0.0.1:80"));
    const { balancer } = pool;
    pool.update(backend("10.0.0.1:80"));
    expect(pool.balancer).toBe(balancer);
  });

  test("is one for all that name it", () => {
    const pools = new BackendPools();
    const pool = pools.pool("default-web-80", backend("10.0.0.1:80"));
    expect(pools.pool("default-web-80", backend("10.0.0.2:80"))).toBe(pool);
    expect(pool.endpoints.map(({ address }) => address)).toEqual(["10.0.0.2:80"]);
  });
});
