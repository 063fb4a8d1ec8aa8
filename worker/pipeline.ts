/**
 * Everything that happens to a request once its route is known, in order: the lists and the loop that runs them.
 *
 * In: a route with its policies; then requests. Out: one list of hooks for the way in and one for the way out,
 * made once, and the answer. Absent features are not in the lists. Not here: what a filter does, and the order
 * itself (`filter-order.ts`).
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
import { FILTER_ORDER, type StepName } from "./filter-order.ts";
import type { Answer, Filter, Hooks, HostFilter } from "./filters/filter.ts";
import { HOST_FILTERS, ROUTE_FILTERS } from "./filters/index.ts";
import type { HostTable, RouteEntry } from "./host-table.ts";
import type { Visit } from "./visit.ts";

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

export interface HostPipeline extends Pipeline<Visit> {
  readonly onRoute: readonly NonNullable<HostFilter["onRoute"]>[];
}

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
  const filters = FILTER_ORDER.map((name) =>
    filterOf(HOST_FILTERS, policies, name as HostFeatureName, { host }),
  );
  return {
    ...assemble((name) => filters[FILTER_ORDER.indexOf(name)]),
    onRoute: filters.map((filter) => filter?.onRoute).filter((hook) => hook !== undefined),
  };
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

/** The answer of the first hook that gives one. No promise is made where no hook makes one: most answer at once. */
export function runRequestHooks<Request>(
  { onRequest }: Pipeline<Request>,
  request: Request,
): Answer | undefined | Promise<Answer | undefined> {
  for (let at = 0; at < onRequest.length; at++) {
    const answer = onRequest[at]?.(request);
    if (answer === undefined) continue;
    if (!(answer instanceof Promise)) return answer;
    return answer.then(
      (settled) =>
        settled ?? runRequestHooks({ onRequest: onRequest.slice(at + 1), onResponse: [] }, request),
    );
  }
  return undefined;
}

/** The answer as it leaves, after every hook. */
export function runResponseHooks<Request>(
  { onResponse }: Pipeline<Request>,
  answer: Answer,
  request: Request,
): Answer | Promise<Answer> {
  let current = answer;
  for (let at = 0; at < onResponse.length; at++) {
    const changed = onResponse[at]?.(current, request);
    if (changed === undefined) continue;
    if (!(changed instanceof Promise)) {
      current = changed;
      continue;
    }
    const before = current;
    return changed.then((settled) =>
      runResponseHooks({ onRequest: [], onResponse: onResponse.slice(at + 1) }, settled ?? before, request),
    );
  }
  return current;
}
