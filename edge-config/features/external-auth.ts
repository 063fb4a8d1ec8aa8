import type { Destination } from "../destination.ts";
import type { Template } from "../template.ts";

/** A service that is asked about every request (nginx `auth_request`; ingress-nginx `auth-url`). */
export interface ExternalAuthPolicy {
  readonly service: Destination;
  /** Absent: GET, and the service is not told `X-Original-URI` and `X-Scheme`. */
  readonly method?: string;
  /** Headers of the service's answer that the pod gets, in place of the client's. */
  readonly responseHeaders: readonly string[];
  /** Further headers for the service. */
  readonly requestHeaders: readonly (readonly [name: string, value: string])[];
  /** Value of `X-Auth-Request-Redirect`; absent: the request's own path and query. */
  readonly requestRedirect?: Template;
  /** Where a client is sent whom a check answers with 401. */
  readonly signin?: {
    readonly url: Template;
    /** Name of the parameter that tells where the client came from; absent: the URL tells it already. */
    readonly redirectParameter?: string;
  };
  /** The service's cookies go to the client even when the pod answers with an error. */
  readonly alwaysSetCookie: boolean;
  readonly cache?: {
    /** What tells requests apart, beside host and route. */
    readonly key: Template;
    /** The first that names the status (or names none) counts. */
    readonly durations: readonly { readonly statuses: readonly number[]; readonly seconds: number }[];
  };
}
