/**
 * Where the edge sends a request of its own making: an auth service, a mirror, the service of error pages.
 *
 * A name inside the cluster is resolved by control to a backend, so it is reached through the origin
 * transport like any other, balancing and retries included. All else is a public URL that control checked
 * against loopback, link-local and metadata addresses.
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
      readonly kind: "Url";
      readonly scheme: "http" | "https";
      /** Host and port; its only variables are those of the request's own host (`$host`, `$http_host`). */
      readonly host: Template;
      /** Path and query; begins with `/`. */
      readonly target: Template;
    };
