/**
 * The order in which filters meet a request. One written array, a line a filter, with the reason for its place.
 *
 * In: nothing. Out: the names. Free of everything but types, so that `fairlead explain` shows the very order.
 */

import type { HostFeatureName, RouteFeatureName } from "../edge-config/policies.ts";

/** Steps that stand among the features without being one. */
export type StepName = "endpoints";

/**
 * The way in, read top to bottom; the way out is the reverse. It is nginx's order (reference §0.6).
 * A feature of a host runs before those of routes, whatever its place here.
 */
export const FILTER_ORDER = [
  "wwwRedirect", // A host that only leads elsewhere has nothing else to say.
  "clientCertificate", // Belongs to the handshake: nothing of the host is told to who may not come in.
  "appRoot", // nginx's server level: it comes before a location is chosen.
  "accessLog", // A switch, set before anything can answer.
  "blocklist", // Whom the operator blocks shall cost nothing more.
  "customErrors", // Outermost on the way out: its page replaces the whole answer, headers of other features too.
  "hsts", // On the way out alone; on errors of the edge too.
  "customHeaders", // On the way out alone, and last there: it has the last word over every answer.
  "addedHeaders", // On the way out just before customHeaders, which a tenant may set for the same name.
  "bodySize", // nginx looks at Content-Length when it has chosen the location, before anything else.
  "cors", // A preflight carries no credentials and must cost no quota: before redirects, limits and every check.
  "redirect", // `return` runs in the rewrite phase: before https, limits and access checks are looked at.
  "sslRedirect", // Before anything is counted or asked: the client comes again over https.
  "canary", // Chooses the backend whose endpoints are looked at next.
  "endpoints", // A backend without endpoints is 503 after redirects, and before a limit is charged or a password asked.
  "affinity", // Behind the choice of the backend, whose endpoints a cookie names.
  "globalRateLimit", // Before nginx's own limits, as ingress-nginx ran it.
  "rateLimit", // Before the checks: a request that they refuse has used a token, so guessing passwords is limited too.
  "accessList", // Costs nothing, so it comes before a password is hashed or a service asked.
  "basicAuth", // A hash is costly, but costs less than a question to a service.
  "externalAuth", // The last check: the service is asked only about requests that passed all others.
  "satisfy", // Behind the last check: it decides when one of them is enough.
  "timeouts", // Before `nextUpstream`, which completes what both say about attempts.
  "nextUpstream", // The origin stage repeats attempts by it.
  "backendProtocol", // Only how the pod is spoken to.
  "upstreamTls", // Only how the pod is spoken to.
  "tracing", // Only what the pod sees.
  "rewrite", // Last of those that shape the request for the pod: what came before goes by the client's own path.
  "upstreamVhost", // Only what the pod sees.
  "mirror", // Last on the way in: the copy is of what passed every check.
  "cookieRewrite", // On the way out alone, next to the pod.
  "redirectRewrite", // On the way out alone, next to the pod.
  "hiddenHeaders", // On the way out alone, next to the pod: what the edge itself adds stays.
  "bandwidth", // On the way out alone; it wraps the pod's body.
] as const satisfies readonly (RouteFeatureName | HostFeatureName | StepName)[];
