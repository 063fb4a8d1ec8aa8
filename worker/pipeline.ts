/**
 * The order of everything that happens to a request once its route is known, and the loop that runs it.
 *
 * In: a route with its policies; then requests. Out: one list of hooks for the way in and one for the way out,
 * made once, and the answer. Absent features are not in the lists. Not here: what a filter does.
 */

import { DEFAULT_MAX_BODY_BYTES } from "../edge-config/features/body-size.ts";
import type {
  HostFeatureName,
  HostPolicies,
  RouteFeatureName,
  RoutePolicies,
} from "../edge-config/policies.ts";
import { errorPage } from "./error-page.ts";
import type { Exchange } from "./exchange.ts";
import type { Answer, Filter, Hooks, HostFilter } from "./filters/filter.ts";
import { HOST_FILTERS, ROUTE_FILTERS } from "./filters/index.ts";
import type { HostTable, RouteEntry } from "./host-table.ts";
import type { Visit } from "./visit.ts";

/** Steps that stand among the features without being one. */
type StepName = "endpoints";

/**
 * The way in, read top to bottom; the way out is the reverse. It is nginx's order (reference §0.6).
 * A feature of a host runs before those of routes, whatever its place here.
 */
export const FILTER_ORDER = [
  "wwwRedirect", // A host that only leads elsewhere has nothing else to say.
  "appRoot", // nginx's server level: it comes before a location is chosen.
  "accessLog", // A switch, set before anything can answer.
  "customErrors", // Outermost on the way out: its page replaces the whole answer, headers of other features too.
  "hsts", // On the way out alone; on errors of the edge too.
  "customHeaders", // On the way out alone, and last there: it has the last word over every answer.
  "bodySize", // nginx looks at Content-Length when it has chosen the location, before anything else.
  "cors", // A preflight carries no credentials and must cost no quota: before redirects, limits and every check.
  "redirect", // `return` runs in the rewrite phase: before https, limits and access checks are looked at.
  "sslRedirect", // Before anything is counted or asked: the client comes again over https.
  "canary", // Chooses the backend whose endpoints are looked at next.
  "endpoints", // A backend without endpoints is 503 after redirects, and before a limit is charged or a password asked.
  "rateLimit", // Before the checks: a request that they refuse has used a token, so guessing passwords is limited too.
  "accessList", // Costs nothing, so it comes before a password is hashed or a service asked.
  "basicAuth", // A hash is costly, but costs less than a question to a service.
  "externalAuth", // The last check: the service is asked only about requests that passed all others.
  "satisfy", // Behind the last check: it decides when one of them is enough.
  "timeouts", // Before `nextUpstream`, which completes what both say about attempts.
  "nextUpstream", // The origin stage repeats attempts by it.
  "backendProtocol", // Only how the pod is spoken to.
  "tracing", // Only what the pod sees.
  "rewrite", // Last of those that shape the request for the pod: what came before goes by the client's own path.
  "upstreamVhost", // Only what the pod sees.
  "mirror", // Last on the way in: the copy is of what passed every check.
  "cookieRewrite", // On the way out alone, next to the pod.
  "redirectRewrite", // On the way out alone, next to the pod.
  "bandwidth", // On the way out alone; it wraps the pod's body.
] as const satisfies readonly (RouteFeatureName | HostFeatureName | StepName)[];

const STEPS: Readonly<Record<StepName, Filter>> = {
  endpoints: {
    onRequest: ({ upstream }) => (upstream.backend?.endpoints.length === 0 ? errorPage(503) : undefined),
  },
};

/** The hooks of one route or host, in their order. `undefined` where there are none. */
export interface Pipeline<Request> {
  readonly onRequest: readonly NonNullable<Hooks<Request>["onRequest"]>[];
  readonly onResponse: readonly NonNullable<Hooks<Request>["onResponse"]>[];
}

export type RoutePipeline = Pipeline<Exchange>;
export type HostPipeline = Pipeline<Visit>;

/** `undefined`: the route has no policy that asks for a hook, and the origin stage decides alone. */
export function buildRoutePipeline(host: HostTable, entry: RouteEntry): RoutePipeline | undefined {
  const { route } = entry;
  if (route.policies === undefined) return undefined;
  return routePipeline({ ...DEFAULTS, ...route.policies }, host, entry);
}

/** For a request with a body on a route without policies: what holds by default. */
export function buildDefaultPipeline(host: HostTable, entry: RouteEntry): RoutePipeline {
  return routePipeline(DEFAULTS, host, entry);
}

/** Features that act where nothing was written; control writes only what differs. */
const DEFAULTS: RoutePolicies = { bodySize: { maxBytes: DEFAULT_MAX_BODY_BYTES } };

function routePipeline(policies: RoutePolicies, host: HostTable, { route }: RouteEntry): RoutePipeline {
  return assemble((name) =>
    name in STEPS
      ? STEPS[name as StepName]
      : filterOf(ROUTE_FILTERS, policies, name as RouteFeatureName, { host, route }),
  );
}

export function buildHostPipeline(host: HostTable): HostPipeline | undefined {
  const { policies } = host.config;
  if (policies === undefined) return undefined;
  return assemble((name) => filterOf(HOST_FILTERS, policies, name as HostFeatureName, { host }));
}

type AnyFilterFor = (policy: unknown, site: unknown) => Filter & HostFilter;

/** The compiler knows that names, policies and filters belong together (`filters/index.ts`), but not for a name that it cannot see. */
function filterOf(
  filters: Readonly<Record<string, unknown>>,
  policies: RoutePolicies | HostPolicies,
  name: string,
  site: unknown,
): (Filter & HostFilter) | undefined {
  const policy: unknown = Object.hasOwn(filters, name) ? policies[name as keyof typeof policies] : undefined;
  return policy === undefined ? undefined : (filters[name] as AnyFilterFor)(policy, site);
}

function assemble<Request>(
  hooksOf: (name: (typeof FILTER_ORDER)[number]) => Hooks<Request> | undefined,
): Pipeline<Request> {
  const hooks = FILTER_ORDER.map(hooksOf).filter((one) => one !== undefined);
  const onRequest = hooks.map((one) => one.onRequest).filter((hook) => hook !== undefined);
  const onResponse = hooks.map((one) => one.onResponse).filter((hook) => hook !== undefined);
  return { onRequest, onResponse: onResponse.reverse() };
}

/** The answer of the first hook that gives one. */
export async function runRequestHooks<Request>(
  pipeline: Pipeline<Request>,
  request: Request,
): Promise<Answer | undefined> {
  for (const hook of pipeline.onRequest) {
    const answer = hook(request);
    if (answer === undefined) continue;
    const settled = answer instanceof Promise ? await answer : answer;
    if (settled !== undefined) return settled;
  }
  return undefined;
}

export async function runResponseHooks<Request>(
  pipeline: Pipeline<Request>,
  answer: Answer,
  request: Request,
): Promise<Answer> {
  let current = answer;
  for (const hook of pipeline.onResponse) {
    const changed = hook(current, request);
    if (changed !== undefined) current = (changed instanceof Promise ? await changed : changed) ?? current;
  }
  return current;
}
