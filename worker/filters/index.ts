/**
 * Every filter, by the name of its feature. The compiler holds these lists complete: a feature without a
 * filter, or a filter without a feature, does not build. Their order in time is `FILTER_ORDER`.
 */

import type { HostFeatureName, RouteFeatureName } from "../../edge-config/policies.ts";
import { appRoot } from "./app-root.ts";
import { cors } from "./cors.ts";
import type { FilterFor, HostFilterFor } from "./filter.ts";
import { redirect } from "./redirect.ts";
import { rewrite } from "./rewrite.ts";
import { sslRedirect } from "./ssl-redirect.ts";
import { upstreamVhost } from "./upstream-vhost.ts";
import { wwwRedirect } from "./www-redirect.ts";

export const ROUTE_FILTERS = { cors, redirect, rewrite, sslRedirect, upstreamVhost } satisfies {
  readonly [N in RouteFeatureName]: FilterFor<N>;
};

export const HOST_FILTERS = { appRoot, wwwRedirect } satisfies {
  readonly [N in HostFeatureName]: HostFilterFor<N>;
};
