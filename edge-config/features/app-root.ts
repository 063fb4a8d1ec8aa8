/** Where a request for exactly `/` is sent (ingress-nginx `app-root`). */
export interface AppRootPolicy {
  /** Begins with `/`; may hold a query. */
  readonly location: string;
}
