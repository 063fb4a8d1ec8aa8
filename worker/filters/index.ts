/**
 * Every filter, by the name of its feature. The compiler holds these lists complete: a feature without a
 * filter, or a filter without a feature, does not build. Their order in time is `FILTER_ORDER`.
 */

import type { HostFeatureName, RouteFeatureName } from "../../edge-config/policies.ts";
import { accessList } from "./access-list.ts";
import { appRoot } from "./app-root.ts";
import { bodySize } from "./body-size.ts";
import { cors } from "./cors.ts";
import { customHeaders } from "./custom-headers.ts";
import type { FilterFor, HostFilterFor } from "./filter.ts";
import { nextUpstream } from "./next-upstream.ts";
import { rateLimit } from "./rate-limit.ts";
import { redirect } from "./redirect.ts";
import { rewrite } from "./rewrite.ts";
import { satisfy } from "./satisfy.ts";
import { sslRedirect } from "./ssl-redirect.ts";
import { timeouts } from "./timeouts.ts";
import { upstreamVhost } from "./upstream-vhost.ts";
import { wwwRedirect } from "./www-redirect.ts";

export const ROUTE_FILTERS = {
  accessList,
  bodySize,
  cors,
  customHeaders,
  nextUpstream,
  rateLimit,
  redirect,
  rewrite,
  satisfy,
  sslRedirect,
  timeouts,
  upstreamVhost,
} satisfies {
  readonly [N in RouteFeatureName]: FilterFor<N>;
};

export const HOST_FILTERS = { appRoot, wwwRedirect } satisfies {
  readonly [N in HostFeatureName]: HostFilterFor<N>;
};
