import type { BackendName } from "../config.ts";

/** Error pages from a service (ingress-nginx `custom-http-errors`, `default-backend`). */
export interface CustomErrorsPolicy {
  /** Statuses that are shown through the service; empty: none. */
  readonly statuses: readonly number[];
  /** The service. Absent: there is none, and such an error becomes a plain 404, as with ingress-nginx's built-in one. */
  readonly backend?: BackendName;
  /** It also gets the requests of a backend that has no endpoints. */
  readonly takesOver: boolean;
  /** Errors of pods are shown as they are; only the edge's own go through the service. */
  readonly passesPodErrors: boolean;
}
