/**
 * Where the edge sends a request of its own making: an auth service, a mirror, the service of error pages.
 *
 * A name inside the cluster is resolved by control to a backend, so it is reached through the origin
 * transport like any other, balancing and retries included. The request's own host (`https://$host/oauth2/auth`)
 * is this edge: it answers such a request itself. All else is a public URL that control checked against
 * loopback, link-local and metadata addresses; the edge answers that itself too where it serves the host.
 */

import type { BackendName } from "./config.ts";
import type { Template } from "./template.ts";

export type Destination =
  | {
      readonly kind: "Backend";
      readonly scheme: "http" | "https";
      readonly backend: BackendName;
      /** The `Host` that is sent, with its port where the annotation wrote one. */
      readonly host: string;
      /** Path and query; begins with `/`. */
      readonly target: Template;
    }
  | {
      readonly kind: "Self";
      readonly scheme: "http" | "https";
      /** Path and query; begins with `/`. */
      readonly target: Template;
    }
  | {
      readonly kind: "Url";
      readonly scheme: "http" | "https";
      /** With its port where the annotation wrote one. */
      readonly host: string;
      /** Path and query; begins with `/`. */
      readonly target: Template;
    };
