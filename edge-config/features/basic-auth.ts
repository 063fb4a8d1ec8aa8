import type { SecretText } from "../secret.ts";

/** User name and password (RFC 7617; ingress-nginx `auth-type: basic`). */
export interface BasicAuthPolicy {
  readonly realm: string;
  /** Lines `user:hash`, each user once. */
  readonly users: SecretText;
}
