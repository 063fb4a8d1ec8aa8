/**
 * The contract between the control service, which writes it, and the edge Worker, which reads it.
 *
 * In: nothing. Out: types and constants only, neutral of Kubernetes clients and of Cloudflare.
 * Not here: how a configuration is cut into shards (`shards.ts`), what a feature means (`features/`).
 *
 * Every value is plain JSON. Two programs deployed on different days share it, so a change that an
 * older reader would misread raises `EDGE_CONFIG_VERSION`; a reader keeps its last good table when it
 * meets a version that it does not know.
 *
 * There are four levels, and each has its policies: the edge, a host, a route, a backend. Whatever names a
 * backend does so in a property called `backend`, at whatever depth of a policy: that is how the backends of a
 * host are found. Text that must not lie in KV in the clear is a `SecretText` (`secret.ts`).
 */

import type { BackendPolicies, EdgePolicies, HostPolicies, RoutePolicies } from "./policies.ts";

/** Raised by every change that a reader of the version before would misread. */
export const EDGE_CONFIG_VERSION = 1;

/** The host key under which rules without a host are kept: the catch-all, asked last. */
export const ANY_HOST = "*";

/** `namespace/name` of the object that an answer or a diagnostic speaks of. */
export type ObjectName = `${string}/${string}`;

/**
 * Names a backend: `namespace/service:port`. Not ingress-nginx's `namespace-service-port`, which two backends may
 * share; where that spelling matters (affinity cookies) it is made from the fields of `Backend`.
 */
export type BackendName = string;

/** The whole configuration of one edge, compiled. What `fairlead compile` prints. */
export interface EdgeConfig {
  readonly version: typeof EDGE_CONFIG_VERSION;
  /** What holds for every request, whatever its host; small, so it travels with the pointer. */
  readonly policies?: EdgePolicies;
  /**
   * Lower-case host without port → its configuration. Three kinds of key: an exact host
   * (`shop.example.com`), a wildcard for exactly one label (`*.example.com`), and `ANY_HOST`.
   * One host answers a request: exact before wildcard before `ANY_HOST`, and never a second one.
   */
  readonly hosts: Readonly<Record<string, HostConfig>>;
  /** Every backend that a host names, once. A host never names a backend that is not here. */
  readonly backends: Readonly<Record<BackendName, Backend>>;
}

/** Everything that a request for one host can meet. */
export interface HostConfig {
  /**
   * `kubernetes`: Exact paths, then the longest Prefix by path element (Ingress specification).
   * `nginx`: the same, but a request for `/x` where only a path `/x/` stands is sent there with 301.
   * `regex`: routes are tried in their order as start-anchored, case-insensitive regular expressions;
   * one Ingress with `use-regex` or a real rewrite turns the whole host to it, as in ingress-nginx.
   */
  readonly matching: "kubernetes" | "nginx" | "regex";
  /**
   * In the order in which they match: longest path first, Exact before Prefix. Never two of equal path and
   * type. The last one is often a Prefix `/` that no rule wrote: the host's default (see `Route.backend`).
   * When none matches, the answer is 404.
   */
  readonly routes: readonly Route[];
  /** TLS of this host ends at its pods: a gateway passes connections on by their server name. The Worker never sees them. */
  readonly sslPassthrough?: { readonly backend: BackendName };
  /** A host-wide policy that must not fail open could not be read: every request gets 403. The text says why. */
  readonly denied?: string;
  /** What is decided before a route is chosen (nginx's server level). Absent means none. */
  readonly policies?: HostPolicies;
  /**
   * Whose it is, where an edge serves several clusters. No Worker asks: a control service that was restarted goes on from
   * here with the clusters that have not told it their state again.
   */
  readonly owner?: HostOwner;
}

export interface HostOwner {
  readonly cluster: string;
  /** Creation of the oldest Ingress with a route of the host: RFC 3339, in UTC. Absent: it has none. */
  readonly since?: string;
}

/** One path of one Ingress. */
export interface Route {
  /** As the rule wrote it; an empty path is `/`. Under `matching: "regex"` the text of a regular expression. */
  readonly path: string;
  readonly pathType: "Exact" | "Prefix";
  /** The Ingress that made it, and whose annotations its policies are. Absent: the operator's own default backend. */
  readonly ingress?: ObjectName;
  /** Absent: the default of a host without a default backend, which answers 404 once its policies are passed. */
  readonly backend?: BackendName;
  /** A policy that must not fail open could not be read: every request of this route gets 503. The text says why. */
  readonly denied?: string;
  /** Absent means none. */
  readonly policies?: RoutePolicies;
}

/** A Service port and the endpoints that may serve it. */
export interface Backend {
  readonly namespace: string;
  readonly service: string;
  /** The port as the Ingress names it: a number in decimal or a port name. */
  readonly port: string;
  /**
   * `address:port`, IPv6 in brackets, a DNS name for ExternalName; sorted, without duplicates.
   * Empty (no endpoint, no such Service, no such port): 503 until it heals.
   */
  readonly endpoints: readonly string[];
  /** Set by the oldest Ingress that names this backend, as in ingress-nginx. Absent means none. */
  readonly policies?: BackendPolicies;
}
