/**
 * A host record: everything that requests for one host can meet, as one self-contained line of JSON.
 *
 * In: a host's configuration and the backends that it names. Out: the line, and back.
 * Not here: in which shard the line stands (`shards.ts`), how a shard is found (`directory.ts`).
 *
 * Backends and route policies are interned: a route refers to them by index, so a host with a thousand
 * paths and one CORS policy holds that policy once. The reader gives every such route the *same* object
 * again, so a Worker can build its filters once per object.
 *
 * Which backends a host names: `backend` of its routes, and every property called `backend` that holds a
 * name at whatever depth of a policy (a canary's, a default backend's). That is the rule for new policies.
 *
 * A line is pure ASCII (other characters as JSON escapes), so offsets in characters are offsets in bytes.
 */

import type { Backend, BackendName, HostConfig, Route } from "./config.ts";
import type { ConfigKeys } from "./config-keys.ts";
import type { RoutePolicies } from "./policies.ts";
import { isSecretText, openSecrets, SecretError, sealSecrets } from "./secret.ts";

/** One host, read back. */
export interface HostRecord {
  readonly config: HostConfig;
  /** Every backend that the host names. */
  readonly backends: ReadonlyMap<BackendName, Backend>;
}

interface StoredRoute extends Omit<Route, "backend" | "policies"> {
  /** Index into `backends`. */
  readonly backend: number;
  /** Index into `routePolicies`. */
  readonly policies?: number;
}

interface StoredHost extends Omit<HostConfig, "routes" | "fallback"> {
  readonly routes: readonly StoredRoute[];
  readonly fallback?: StoredRoute;
  readonly routePolicies: readonly RoutePolicies[];
  readonly backends: readonly (readonly [BackendName, Backend])[];
}

/** Why a route is denied whose secrets cannot be protected; the route answers 503, never without its guard. */
const UNPROTECTED =
  "The policy of this route holds a secret, and secrets are written to KV only sealed: set FAIRLEAD_CONFIG_KEY at the control service and at the Worker.";

/** The names of all backends that a host refers to, in order of first mention, whether they exist or not. */
export function backendNames(host: HostConfig): readonly BackendName[] {
  const names = new Set<BackendName>();
  for (const route of routesOf(host)) {
    names.add(route.backend);
    if (route.policies !== undefined) for (const name of mentions(route.policies).backends) names.add(name);
  }
  if (host.policies !== undefined) for (const name of mentions(host.policies).backends) names.add(name);
  return [...names];
}

/**
 * The line of a host, without line break. Equal input gives equal bytes.
 * `named` are the backends that `backendNames` lists; one that a policy names may be missing, a route's may
 * not (then it throws: the compiler broke its contract).
 * Without keys, a route whose policy holds a secret is written as denied: a secret is never stored in clear.
 */
export async function encodeHostRecord(
  hostName: string,
  host: HostConfig,
  named: readonly (readonly [BackendName, Backend | undefined])[],
  keys: ConfigKeys | undefined,
): Promise<string> {
  const backends = named.filter((entry): entry is readonly [BackendName, Backend] => entry[1] !== undefined);
  const backendIndex = new Map(backends.map(([name], index) => [name, index]));
  const hostIsUnprotected =
    keys === undefined && host.policies !== undefined && mentions(host.policies).secret;
  const policyTexts = new Map<string, number>();
  const policyIndex = new Map<RoutePolicies, number>();
  const routePolicies: RoutePolicies[] = [];

  const intern = async (policies: RoutePolicies): Promise<number> => {
    const known = policyIndex.get(policies);
    if (known !== undefined) return known;
    const stored =
      keys !== undefined && mentions(policies).secret
        ? ((await sealSecrets(policies, keys, hostName)) as RoutePolicies)
        : policies;
    const text = JSON.stringify(stored);
    const index = policyTexts.get(text) ?? routePolicies.push(stored) - 1;
    policyTexts.set(text, index);
    policyIndex.set(policies, index);
    return index;
  };
  const store = async (route: Route): Promise<StoredRoute> => {
    const { backend, policies, ...rest } = route;
    const index = backendIndex.get(backend);
    if (index === undefined)
      throw new Error(`Backend ${backend} of ${route.ingress} is not among the host's.`);
    if (hostIsUnprotected || (keys === undefined && policies !== undefined && mentions(policies).secret)) {
      return { ...rest, backend: index, denied: route.denied ?? UNPROTECTED };
    }
    return policies === undefined
      ? { ...rest, backend: index }
      : { ...rest, backend: index, policies: await intern(policies) };
  };

  const { routes, fallback, policies, ...rest } = host;
  const storedRoutes: StoredRoute[] = [];
  for (const route of routes) storedRoutes.push(await store(route)); // In turn: indices follow the routes' order.
  const stored: StoredHost = {
    ...rest,
    routes: storedRoutes,
    ...(fallback === undefined ? {} : { fallback: await store(fallback) }),
    ...(policies === undefined || hostIsUnprotected
      ? {}
      : {
          policies:
            keys === undefined
              ? policies
              : ((await sealSecrets(policies, keys, hostName)) as typeof policies),
        }),
    routePolicies,
    backends,
  };
  return asciiJson(stored);
}

/**
 * Reads a line back. `hostName` is the key under which the shard's index has it.
 * A policy whose secrets cannot be opened denies its routes and no others.
 * Throws only when the line is not a host record, which a verified shard excludes.
 */
export async function decodeHostRecord(
  hostName: string,
  line: string,
  keys: ConfigKeys | undefined,
): Promise<HostRecord> {
  const { routes, fallback, policies, routePolicies, backends, ...rest } = JSON.parse(line) as StoredHost;
  // Records without secrets, nearly all, pay one scan of the line and no copying.
  const sealed = line.includes('"sealed"');
  const opened = sealed
    ? await Promise.all(routePolicies.map((one) => tryOpen(one, keys, hostName)))
    : routePolicies;
  const hostPolicies = sealed && policies !== undefined ? await tryOpen(policies, keys, hostName) : policies;

  const load = (stored: StoredRoute): Route => {
    const { backend, policies: policyIndex, ...route } = stored;
    const name = backends[backend]?.[0];
    if (name === undefined) throw new Error(`The record of ${hostName} lacks backend ${backend}.`);
    const own = policyIndex === undefined ? undefined : opened[policyIndex];
    if (policyIndex !== undefined && own === undefined)
      throw new Error(`The record of ${hostName} lacks policy ${policyIndex}.`);
    const closed =
      own instanceof SecretError ? own : hostPolicies instanceof SecretError ? hostPolicies : undefined;
    if (closed !== undefined) {
      return {
        ...route,
        backend: name,
        denied: route.denied ?? `A secret of this route cannot be opened: ${closed.message}.`,
      };
    }
    return own === undefined || own instanceof SecretError
      ? { ...route, backend: name }
      : { ...route, backend: name, policies: own };
  };
  return {
    config: {
      ...rest,
      routes: routes.map(load),
      ...(fallback === undefined ? {} : { fallback: load(fallback) }),
      ...(hostPolicies === undefined || hostPolicies instanceof SecretError
        ? {}
        : { policies: hostPolicies }),
    },
    backends: new Map(backends),
  };
}

async function tryOpen<T extends object>(
  policies: T,
  keys: ConfigKeys | undefined,
  hostName: string,
): Promise<T | SecretError> {
  try {
    return (await openSecrets(policies, keys, hostName)) as T;
  } catch (error) {
    if (error instanceof SecretError) return error;
    throw error;
  }
}

function routesOf(host: HostConfig): readonly Route[] {
  return host.fallback === undefined ? host.routes : [...host.routes, host.fallback];
}

interface Mentions {
  readonly backends: readonly BackendName[];
  readonly secret: boolean;
}

/** Policies are immutable and shared by many routes, so each object is walked once in its life. */
const mentionsOf = new WeakMap<object, Mentions>();

function mentions(policies: object): Mentions {
  let found = mentionsOf.get(policies);
  if (found === undefined) {
    const backends: BackendName[] = [];
    found = { secret: walk(policies, backends), backends };
    mentionsOf.set(policies, found);
  }
  return found;
}

/** Collects backend names; returns whether there is a secret below. */
function walk(value: unknown, backends: BackendName[]): boolean {
  if (typeof value !== "object" || value === null) return false;
  if (isSecretText(value)) return true;
  let secret = false;
  for (const [name, item] of Object.entries(value)) {
    if (name === "backend" && typeof item === "string") backends.push(item);
    else if (walk(item, backends)) secret = true;
  }
  return secret;
}

// The control characters before the space are escaped by JSON.stringify already.
const NOT_ASCII = /[\u007f-\uffff]/g;

/** JSON in which every character is one byte. Lone surrogates survive the way there and back. */
export function asciiJson(value: unknown): string {
  return JSON.stringify(value).replace(
    NOT_ASCII,
    (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}
