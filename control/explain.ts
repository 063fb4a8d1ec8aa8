/**
 * What a request would meet at the edge, and why.
 *
 * In: a configuration and a request. Out: the host, the route, the filters in their order and the endpoints, each
 * with its reason. It runs the very code that serves (`worker/path.ts`, `table.ts`, `match.ts`) and the very order
 * of filters, so it cannot be of another opinion. It sends nothing.
 * Not here: what a filter decides about this request; its policy is shown.
 */

import type { Diagnostic } from "../cluster/diagnostic.ts";
import {
  ANY_HOST,
  type Backend,
  type BackendName,
  type EdgeConfig,
  type HostConfig,
  type Route,
} from "../edge-config/config.ts";
import { wildcardOf } from "../edge-config/pointer.ts";
import { FILTER_ORDER } from "../worker/filter-order.ts";
import { normalisePath } from "../worker/path.ts";
import { buildRouteTable } from "../worker/table.ts";

export interface ExplainRequest {
  /** `http://shop.example.com/cart?x=1`; without a scheme `http` is meant. The path is taken as written. */
  readonly url: string;
  readonly method: string;
  /** A `Host` here counts instead of the URL's. */
  readonly headers: readonly (readonly [string, string])[];
}

export interface Explanation {
  readonly request: {
    readonly method: string;
    readonly scheme: string;
    readonly host: string;
    /** As sent. */
    readonly path: string;
    /** What every decision is made by: dots and slashes resolved, escapes decoded. Absent where that fails (400). */
    readonly normalisedPath?: string;
  };
  /** What the edge answers by itself before any filter, if it does. */
  readonly answer?: { readonly status: number; readonly why: string };
  readonly host?: { readonly name: string; readonly why: string };
  readonly route?: {
    readonly path: string;
    readonly pathType: Route["pathType"];
    readonly matching: HostConfig["matching"];
    readonly ingress?: string;
    readonly why: string;
    /** The routes of the host in the order in which they are asked: at most 20 around the one that matches. */
    readonly order: readonly string[];
  };
  /** In the order in which they meet the request. */
  readonly filters: readonly {
    readonly name: string;
    readonly level: "host" | "route";
    readonly policy: unknown;
  }[];
  readonly backend?: {
    readonly name: BackendName;
    readonly endpoints: readonly string[];
    readonly policies?: Backend["policies"];
    readonly why: string;
  };
  /** What the compiler says about the Ingress of the route. */
  readonly diagnostics: readonly Diagnostic[];
}

/** `undefined`: the text is no URL. */
export function explain(
  config: EdgeConfig,
  request: ExplainRequest,
  diagnostics: readonly Diagnostic[] = [],
): Explanation | undefined {
  const target = readTarget(request);
  if (target === undefined) return undefined;
  const normalisedPath = normalisePath(target.path);
  const asked = { method: request.method.toUpperCase(), ...target };
  if (normalisedPath === undefined) {
    const why =
      "the path climbs above the root, or holds a broken escape, NUL, a space or a control character";
    return { request: asked, answer: { status: 400, why }, filters: [], diagnostics: [] };
  }
  return {
    request: { ...asked, normalisedPath },
    ...explainHost(config, target.host, normalisedPath, diagnostics),
  };
}

type Rest = Omit<Explanation, "request">;

function explainHost(
  config: EdgeConfig,
  host: string,
  path: string,
  diagnostics: readonly Diagnostic[],
): Rest {
  const found = findHost(config, host);
  if (found === undefined) {
    const why = `no rule has the host ${host}, none has *${host.slice(Math.max(0, host.indexOf(".")))}, and there is no rule or default backend for every host`;
    return { answer: { status: 404, why }, filters: [], diagnostics: [] };
  }
  const { name, why, config: hostConfig } = found;
  const onHost = { host: { name, why } };
  if (hostConfig.denied !== undefined) {
    return { ...onHost, answer: { status: 403, why: hostConfig.denied }, filters: [], diagnostics: [] };
  }
  const match = buildRouteTable(hostConfig, (route) => route).find(path);
  if (match === undefined) {
    const noRoute = `no path of ${name} matches; rules of other hosts, and those without a host, are not asked`;
    return {
      ...onHost,
      answer: { status: 404, why: noRoute },
      filters: hostFilters(hostConfig),
      diagnostics: [],
    };
  }
  const { entry: route } = match;
  const rest = {
    ...onHost,
    route: describeRoute(hostConfig, route),
    diagnostics: diagnostics.filter(({ kind, object }) => kind === "Ingress" && object === route.ingress),
  };
  if (route.denied !== undefined) {
    return { ...rest, answer: { status: 503, why: route.denied }, filters: hostFilters(hostConfig) };
  }
  if (match.kind === "trailingSlash") {
    const slash = `the rule's path ends with a slash and the request's does not, so it is sent to ${path}/ (--compat nginx)`;
    return { ...rest, answer: { status: 301, why: slash }, filters: hostFilters(hostConfig) };
  }
  const filters = [...hostFilters(hostConfig), ...routeFilters(route)];
  if (route.backend === undefined) {
    const noBackend = "no rule of the host has this path, and the host has no default backend";
    return { ...rest, answer: { status: 404, why: noBackend }, filters };
  }
  const backend = describeBackend(route.backend, config.backends[route.backend], rest.diagnostics);
  if (backend.endpoints.length > 0) return { ...rest, filters, backend };
  return { ...rest, answer: { status: 503, why: backend.why }, filters, backend };
}

function findHost(
  config: EdgeConfig,
  host: string,
): { readonly name: string; readonly why: string; readonly config: HostConfig } | undefined {
  const wildcard = wildcardOf(host);
  const candidates: readonly (readonly [string | undefined, string])[] = [
    [host, "a rule (or an alias) has exactly this host"],
    [wildcard, `no rule has the host ${host}, and ${wildcard} stands for one label`],
    [
      ANY_HOST,
      `no rule has the host ${host}${wildcard === undefined ? "" : ` or ${wildcard}`}, so the rules without a host and the default backend are asked`,
    ],
  ];
  for (const [name, why] of candidates) {
    const found = name !== undefined && Object.hasOwn(config.hosts, name) ? config.hosts[name] : undefined;
    if (name !== undefined && found !== undefined) return { name, why, config: found };
  }
  return undefined;
}

const MAX_SHOWN_ROUTES = 20;

function describeRoute(host: HostConfig, route: Route): NonNullable<Explanation["route"]> {
  const { path, pathType, ingress } = route;
  const index = host.routes.indexOf(route);
  const start = Math.max(0, Math.min(index - MAX_SHOWN_ROUTES / 2, host.routes.length - MAX_SHOWN_ROUTES));
  return {
    path,
    pathType,
    matching: host.matching,
    ...(ingress === undefined ? {} : { ingress }),
    why:
      host.matching === "regex"
        ? `it is the first, in order of length, of the host's ${host.routes.length} regular expressions that matches the beginning of the path`
        : pathType === "Exact"
          ? "it is Exact and equals the path, which goes before every Prefix"
          : path === "/"
            ? "no longer path of the host matches"
            : "it is the longest Prefix that matches, by path element, and no Exact path does",
    order: host.routes
      .slice(start, start + MAX_SHOWN_ROUTES)
      .map(
        (one) => `${one.pathType} ${one.path} → ${one.backend ?? "404"}${one === route ? " (this one)" : ""}`,
      ),
  };
}

function hostFilters({ policies }: HostConfig): Explanation["filters"] {
  return inOrder("host", policies);
}

function routeFilters({ policies }: Route): Explanation["filters"] {
  return inOrder("route", policies);
}

function inOrder(level: "host" | "route", policies: object | undefined): Explanation["filters"] {
  if (policies === undefined) return [];
  const rank = (name: string): number => {
    const index = (FILTER_ORDER as readonly string[]).indexOf(name);
    return index === -1 ? FILTER_ORDER.length : index; // What is no filter takes effect where the origin is asked.
  };
  return Object.entries(policies)
    .map(([name, policy]: [string, unknown]) => ({ name, level, policy }))
    .sort((a, b) => rank(a.name) - rank(b.name));
}

function describeBackend(
  name: BackendName,
  backend: Backend | undefined,
  diagnostics: readonly Diagnostic[],
): NonNullable<Explanation["backend"]> {
  const endpoints = backend?.endpoints ?? [];
  const [namespace, service] = [backend?.namespace, backend?.service];
  const said = diagnostics.find(({ message }) =>
    message.includes(`Service ${namespace}/${service} `),
  )?.message;
  return {
    name,
    endpoints,
    ...(backend?.policies === undefined ? {} : { policies: backend.policies }),
    why:
      endpoints.length > 0
        ? `${endpoints.length} ready endpoint${endpoints.length === 1 ? "" : "s"} of port ${backend?.port} of Service ${namespace}/${service}`
        : (said ?? `Service ${namespace}/${service} has no ready endpoint for port ${backend?.port}`),
  };
}

/** By hand: `URL` would resolve the path before we have seen it. */
function readTarget({
  url,
  headers,
}: ExplainRequest): { readonly scheme: string; readonly host: string; readonly path: string } | undefined {
  const [, scheme = "http", authority = "", rest = ""] =
    /^(?:(https?):\/\/)?([^/?#\s]*)([^#]*)/i.exec(url) ?? [];
  const written = headers.find(([name]) => name.toLowerCase() === "host")?.[1] ?? authority;
  const host = written
    .trim()
    .toLowerCase()
    .replace(/:[0-9]*$/, "")
    .replace(/\.$/, "");
  if (host === "") return undefined;
  const [path = ""] = rest.split("?");
  return { scheme: scheme.toLowerCase(), host, path: path === "" ? "/" : path };
}
