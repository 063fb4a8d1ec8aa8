/**
 * Every filter, by the name of its feature. The compiler holds these lists complete: a feature without a
 * filter, or a filter without a feature, does not build. Their order in time is `FILTER_ORDER`.
 */

import type { HostFeatureName, RouteFeatureName } from "../../edge-config/policies.ts";
import { cors } from "./cors.ts";
import type { FilterFor, HostFilterFor } from "./filter.ts";

export const ROUTE_FILTERS = { cors } satisfies { readonly [N in RouteFeatureName]: FilterFor<N> };

export const HOST_FILTERS = {} satisfies { readonly [N in HostFeatureName]: HostFilterFor<N> };
