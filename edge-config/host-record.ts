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
 * Which backends a host names: every property called `backend` that holds a name, in its routes and at
 * whatever depth of its policies (a canary's, an error page's), and the same in the policies of those
 * backends. Whoever adds a policy keeps that rule.
 *
 * Secrets fail closed, each at the level where it stands: a policy whose secret cannot be sealed or opened
 * denies its route or its host, and a backend loses its endpoints.
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
  readonly backend?: number;
  /** Index into `routePolicies`. */
  readonly policies?: number;
}

interface StoredHost extends Omit<HostConfig, "routes"> {
  readonly routes: readonly StoredRoute[];
  readonly routePolicies: readonly RoutePolicies[];
  readonly backends: readonly (readonly [BackendName, Backend])[];
}

/** Why something is denied whose secret cannot be sealed: it is closed, but never without its guard. */
const UNSEALED =
  "A policy here holds a secret, and secrets are written to KV only sealed: set FAIRLEAD_CONFIG_KEY at the control service and at the Worker.";

/** A backend by name, or `undefined` when there is none. */
export type NamedBackend = readonly [BackendName, Backend | undefined];

/** All backends that a host refers to, in order of first mention, whether they exist or not. */
export function backendsOf(
  host: HostConfig,
  find: (name: BackendName) => Backend | undefined,
): readonly NamedBackend[] {
  const found = new Map<BackendName, Backend | undefined>();
  const add = (name: BackendName): void => {
    if (found.has(name)) return;
    const backend = find(name);
    found.set(name, backend);
    addMentions(backend?.policies);
  };
  const addMentions = (policies: object | undefined): void => {
    if (policies !== undefined) for (const name of mentions(policies).backends) add(name);
  };
  for (const route of host.routes) {
    if (route.backend !== undefined) add(route.backend);
    addMentions(route.policies);
  }
  addMentions(host.policies);
  return [...found];
}

/**
 * The line of a host, without line break. Equal input gives equal bytes.
 * `named` is what `backendsOf` found. A route that names a missing backend throws: the compiler broke its
 * contract. A policy may name a missing one.
 */
export async function encodeHostRecord(
  hostName: string,
  host: HostConfig,
  named: readonly NamedBackend[],
  keys: ConfigKeys | undefined,
): Promise<string> {
  const { routes, policies, ...rest } = host;
  const backends: (readonly [BackendName, Backend])[] = [];
  const backendIndex = new Map<BackendName, number>();
  for (const [name, backend] of named) {
    if (backend === undefined) continue;
    backendIndex.set(name, backends.length);
    backends.push([name, await protectBackend(hostName, backend, keys)]);
  }

  const routePolicies: RoutePolicies[] = [];
  const indexByPolicies = new Map<RoutePolicies, number>();
  const indexByText = new Map<string, number>();
  const intern = (original: RoutePolicies, stored: RoutePolicies): number => {
    const known = indexByPolicies.get(original);
    if (known !== undefined) return known;
    const text = JSON.stringify(stored);
    const index = indexByText.get(text) ?? routePolicies.push(stored) - 1;
    indexByText.set(text, index);
    indexByPolicies.set(original, index);
    return index;
  };

  const storedRoutes: StoredRoute[] = [];
  for (const { backend, policies: routePolicy, ...route } of routes) {
    const index = backend === undefined ? undefined : backendIndex.get(backend);
    if (backend !== undefined && index === undefined) {
      throw new Error(
        `Route ${route.path} of ${hostName} names the backend ${backend}, which the configuration lacks.`,
      );
    }
    const sealed = routePolicy && (await protect(hostName, routePolicy, keys));
    storedRoutes.push({
      ...route,
      ...(index === undefined ? {} : { backend: index }),
      ...(routePolicy === undefined || sealed === undefined ? {} : { policies: intern(routePolicy, sealed) }),
      ...(routePolicy !== undefined && sealed === undefined ? { denied: route.denied ?? UNSEALED } : {}),
    });
  }

  const sealedPolicies = policies && (await protect(hostName, policies, keys));
  const stored: StoredHost = {
    ...rest,
    ...(sealedPolicies === undefined ? {} : { policies: sealedPolicies }),
    ...(policies !== undefined && sealedPolicies === undefined ? { denied: rest.denied ?? UNSEALED } : {}),
    routes: storedRoutes,
    routePolicies,
    backends,
  };
  return asciiJson(stored);
}

/** The policies as they may be stored; `undefined` when they hold a secret and there is no key. */
async function protect<T extends object>(
  hostName: string,
  policies: T,
  keys: ConfigKeys | undefined,
): Promise<T | undefined> {
  if (!mentions(policies).secret) return policies;
  return keys && ((await sealSecrets(policies, keys, hostName)) as T);
}

async function protectBackend(
  hostName: string,
  backend: Backend,
  keys: ConfigKeys | undefined,
): Promise<Backend> {
  const { policies, ...rest } = backend;
  if (policies === undefined || !mentions(policies).secret) return backend;
  const sealed = await protect(hostName, policies, keys);
  return sealed === undefined ? { ...rest, endpoints: [] } : { ...rest, policies: sealed };
}

/**
 * Reads a line back. `hostName` is the key under which the shard's index has it.
 * Throws only when the line is not a host record, which a verified shard excludes.
 */
export async function decodeHostRecord(
  hostName: string,
  line: string,
  keys: ConfigKeys | undefined,
): Promise<HostRecord> {
  const { routes, policies, routePolicies, backends, ...rest } = JSON.parse(line) as StoredHost;
  // Records without secrets, nearly all, pay one scan of the line and no copying.
  const sealed = line.includes('"sealed"');
  const opened = sealed
    ? await Promise.all(routePolicies.map((one) => tryOpen(one, keys, hostName)))
    : routePolicies;
  const hostPolicies = sealed && policies !== undefined ? await tryOpen(policies, keys, hostName) : policies;
  const openedBackends = sealed
    ? await Promise.all(
        backends.map(async ([name, one]) => [name, await openBackend(one, keys, hostName)] as const),
      )
    : backends;

  const load = (stored: StoredRoute): Route => {
    const { backend, policies: policyIndex, ...route } = stored;
    const name = backend === undefined ? undefined : backends[backend]?.[0];
    const own = policyIndex === undefined ? undefined : opened[policyIndex];
    if (
      (name === undefined) !== (backend === undefined) ||
      (own === undefined) !== (policyIndex === undefined)
    ) {
      throw new Error(`The record of ${hostName} lacks backend ${backend} or policy ${policyIndex}.`);
    }
    return {
      ...route,
      ...(name === undefined ? {} : { backend: name }),
      ...(own instanceof SecretError ? { denied: route.denied ?? unopened(own) } : {}),
      ...(own === undefined || own instanceof SecretError ? {} : { policies: own }),
    };
  };
  return {
    config: {
      ...rest,
      ...(hostPolicies instanceof SecretError ? { denied: rest.denied ?? unopened(hostPolicies) } : {}),
      ...(hostPolicies === undefined || hostPolicies instanceof SecretError
        ? {}
        : { policies: hostPolicies }),
      routes: routes.map(load),
    },
    backends: new Map(openedBackends),
  };
}

function unopened(error: SecretError): string {
  return `A secret here cannot be opened: ${error.message}.`;
}

async function openBackend(
  backend: Backend,
  keys: ConfigKeys | undefined,
  hostName: string,
): Promise<Backend> {
  const { policies, ...rest } = backend;
  if (policies === undefined) return backend;
  const opened = await tryOpen(policies, keys, hostName);
  return opened instanceof SecretError ? { ...rest, endpoints: [] } : { ...rest, policies: opened };
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
