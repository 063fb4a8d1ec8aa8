/**
 * What it costs to find the route of a host and path, beside the routers of hono, find-my-way and rou3, and beside
 * the floor: a `Map` by host, in it a `Map` of exact paths and prefixes tried longest first.
 *
 * Ten paths a host: five Exact, five Prefix. The libraries know no hosts (hono, rou3) or only few on a path
 * (find-my-way), so the host is the first segment of their path. A library that finds another route than the floor
 * for any probe is left out, with a word why.
 */

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import findMyWay from "find-my-way";
import { RegExpRouter } from "hono/router/reg-exp-router";
import { TrieRouter } from "hono/router/trie-router";
import { addRoute, createRouter, findRoute } from "rou3";
import type { HostConfig, ObjectName } from "../../edge-config/config.ts";
import { buildRouteTable, type RouteTable } from "../../worker/table.ts";
import type { Bench } from "../bench.ts";
import { interleave, median, medianRatio } from "../statistics.ts";

const SIZES = [1_000, 10_000, 100_000] as const;
const PATHS_PER_HOST = 10;
const PROBES = 10_000;
const MATCHES_A_ROUND = 100_000;

type Finder = (host: string, path: string) => unknown;
/** Builds a router of so many hosts; a text says why it cannot. */
type Builder = (hosts: readonly HostRoutes[]) => Finder | string;

interface HostRoutes {
  readonly host: string;
  readonly routes: readonly (readonly [pathType: "Exact" | "Prefix", path: string, id: string])[];
  /** The same as a record has it, which is parsed by then. */
  readonly config: HostConfig;
}

const BUILDERS: Readonly<Record<string, Builder>> = {
  floor: (hosts) => {
    const byHost = new Map(
      hosts.map(({ host, routes }) => [
        host,
        {
          exact: new Map(routes.filter(([type]) => type === "Exact").map(([, path, id]) => [path, id])),
          prefixes: routes
            .filter(([type]) => type === "Prefix")
            .sort(([, left], [, right]) => right.length - left.length),
        },
      ]),
    );
    return (host, path) => {
      const found = byHost.get(host);
      if (found === undefined) return undefined;
      const exact = found.exact.get(path);
      if (exact !== undefined) return exact;
      for (const [, prefix, id] of found.prefixes) {
        if (
          path.startsWith(prefix) &&
          (path.length === prefix.length || path.charCodeAt(prefix.length) === 47)
        )
          return id;
      }
      return undefined;
    };
  },
  Fairlead: (hosts) => {
    const byHost = new Map<string, RouteTable<string | undefined>>();
    // The name of the Ingress tells routes apart here.
    for (const { host, config } of hosts)
      byHost.set(
        host,
        buildRouteTable(config, ({ ingress }) => ingress),
      );
    return (host, path) => byHost.get(host)?.find(path)?.entry;
  },
  "hono RegExpRouter, one a host": (hosts) => {
    const byHost = new Map(
      hosts.map(({ host, routes }) => {
        const router = new RegExpRouter<string>();
        for (const [type, path, id] of routes) router.add("GET", type === "Exact" ? path : `${path}/*`, id);
        return [host, router];
      }),
    );
    return (host, path) => firstOf(byHost.get(host)?.match("GET", path));
  },
  "hono RegExpRouter": (hosts) => {
    if (hosts.length > 100) return "13 s to build at 10 000 routes, refuses 100 000; not tried beyond 1 000";
    const router = new RegExpRouter<string>();
    for (const { host, routes } of hosts)
      for (const [type, path, id] of routes)
        router.add("GET", type === "Exact" ? `/${host}${path}` : `/${host}${path}/*`, id);
    return (host, path) => firstOf(router.match("GET", `/${host}${path}`));
  },
  "hono TrieRouter": (hosts) => {
    const router = new TrieRouter<string>();
    for (const { host, routes } of hosts)
      for (const [type, path, id] of routes)
        router.add("GET", type === "Exact" ? `/${host}${path}` : `/${host}${path}/*`, id);
    return (host, path) => firstOf(router.match("GET", `/${host}${path}`));
  },
  "find-my-way": (hosts) => {
    const router = findMyWay();
    for (const { host, routes } of hosts) {
      for (const [type, path, id] of routes) {
        router.on("GET", `/${host}${path}`, () => {}, id);
        if (type === "Prefix") router.on("GET", `/${host}${path}/*`, () => {}, id);
      }
    }
    return (host, path) => router.find("GET", `/${host}${path}`)?.store as unknown;
  },
  rou3: (hosts) => {
    const router = createRouter<string>();
    for (const { host, routes } of hosts)
      for (const [type, path, id] of routes)
        addRoute(router, "GET", type === "Exact" ? `/${host}${path}` : `/${host}${path}/**`, id);
    return (host, path) => findRoute(router, "GET", `/${host}${path}`)?.data;
  },
};

/** With the hosts before them in a `Map` of ours, half of the work is not the library's: shown, and not counted. */
const LIBRARIES = ["hono RegExpRouter", "hono TrieRouter", "find-my-way", "rou3"] as const;

export const bench: Bench = {
  title: "finding the route of a host and path, 10 paths a host",
  goals: [
    ...SIZES.map((size) => ({
      what: `beside the floor at ${size} routes`,
      measure: `overFloor${size}`,
      bound: { atMost: 1.2 },
    })),
    {
      what: "the best library beside us at 100000 routes",
      measure: "bestLibraryOverOurs100000",
      bound: { atLeast: 5 },
    },
    {
      what: "milliseconds to build 100000 routes",
      measure: "buildMilliseconds100000",
      bound: { atMost: 100 },
    },
  ],
  async run({ rounds, note }) {
    const measures: Record<string, number> = {};
    const table: string[][] = [["", ...SIZES.flatMap((size) => [`µs at ${size}`, "build ms"])]];
    const rows = new Map(Object.keys(BUILDERS).map((name) => [name, [name]]));
    const remarks = new Set<string>();
    for (const size of SIZES) {
      note(`${size} routes`);
      const hosts = makeHosts(size / PATHS_PER_HOST);
      const probes = makeProbes(hosts);
      const finders = new Map<string, Finder>();
      const builds = new Map<string, number>();
      for (const [name, build] of Object.entries(BUILDERS)) {
        const times: number[] = [];
        let finder: Finder | string = "";
        // The build is measured more than once only where it is ours: theirs may take seconds.
        for (let count = 0; count < (name === "Fairlead" || name === "floor" ? rounds : 1); count++) {
          const startedAt = performance.now();
          finder = build(hosts);
          times.push(performance.now() - startedAt);
        }
        if (typeof finder === "string") {
          remarks.add(`${name}: ${finder}`);
          continue;
        }
        const found = finder;
        const wrong = probes.find(({ host, path, id }) => found(host, path) !== id);
        if (wrong !== undefined) {
          remarks.add(
            `${name}: finds ${String(found(wrong.host, wrong.path))} for ${wrong.path}, not ${wrong.id}`,
          );
          continue;
        }
        finders.set(name, found);
        builds.set(name, median(times));
      }
      const names = [...finders.keys()];
      const results = await interleave(names, rounds, (name) => timeOf(finders.get(name), probes));
      for (const [name, row] of rows) {
        const times = results[name];
        row.push(times === undefined ? "–" : median(times).toFixed(3), builds.get(name)?.toFixed(0) ?? "–");
      }
      const ours = results.Fairlead ?? [];
      measures[`overFloor${size}`] = medianRatio(ours, results.floor ?? []);
      measures[`buildMilliseconds${size}`] = builds.get("Fairlead") ?? Number.NaN;
      measures[`bestLibraryOverOurs${size}`] = Math.min(
        ...LIBRARIES.map((name) => medianRatio(results[name] ?? [Number.POSITIVE_INFINITY], ours)),
      );
    }
    table.push(...rows.values());
    for (const remark of remarks) note(remark);
    return {
      table,
      measures,
      versions: { hono: versionOf("hono"), "find-my-way": versionOf("find-my-way"), rou3: versionOf("rou3") },
    };
  },
};

function firstOf(result: readonly [readonly unknown[], unknown?] | undefined): unknown {
  const handler = result?.[0][0];
  return Array.isArray(handler) ? handler[0] : handler;
}

function makeHosts(count: number): readonly HostRoutes[] {
  return Array.from({ length: count }, (_, at) => {
    const host = `h${at}.apps.example.com`;
    const paths = Array.from({ length: PATHS_PER_HOST }, (_unused, path) =>
      path % 2 === 0
        ? (["Exact", `/api/v1/items${path}`] as const)
        : (["Prefix", `/static/part${path}/files`] as const),
    );
    const routes = paths
      .map(([type, path]) => [type, path, `default/${at}:${path}` satisfies ObjectName] as const)
      .sort(([, left], [, right]) => right.length - left.length);
    const config: HostConfig = {
      matching: "kubernetes",
      routes: routes.map(([pathType, path, ingress]) => ({ pathType, path, ingress })),
    };
    return { host, routes, config };
  });
}

interface Probe {
  readonly host: string;
  readonly path: string;
  readonly id: string;
}

/** Spread over all hosts; texts of their own, as those of requests are. */
function makeProbes(hosts: readonly HostRoutes[]): readonly Probe[] {
  return Array.from({ length: PROBES }, (_, at) => {
    const { host, routes } = hosts[(at * 7919) % hosts.length] as HostRoutes;
    const [type, path, id] = routes[(at * 31) % routes.length] as HostRoutes["routes"][number];
    const asked = type === "Exact" ? path : `${path}/deeper/app.${at % 97}.js`;
    return { host: copyOf(host), path: copyOf(asked), id };
  });
}

function copyOf(text: string): string {
  return Buffer.from(text).toString("latin1");
}

/** Microseconds a match. */
function timeOf(find: Finder | undefined, probes: readonly Probe[]): number {
  if (find === undefined) return Number.NaN;
  let found = 0;
  const startedAt = performance.now();
  for (let count = 0; count < MATCHES_A_ROUND; ) {
    for (const { host, path } of probes) {
      if (find(host, path) !== undefined) found++;
      count++;
    }
  }
  const milliseconds = performance.now() - startedAt;
  if (found < MATCHES_A_ROUND) throw new Error("a probe found nothing");
  return (milliseconds * 1000) / found;
}

function versionOf(name: string): string {
  const require = createRequire(import.meta.url);
  let folder = require.resolve(name);
  for (;;) {
    folder = folder.slice(0, folder.lastIndexOf("/"));
    try {
      const parsed = JSON.parse(readFileSync(`${folder}/package.json`, "utf8")) as {
        name?: string;
        version?: string;
      };
      if (parsed.name === name) return parsed.version ?? "unknown";
    } catch {
      // Not there: one folder up.
    }
  }
}
