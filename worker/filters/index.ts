/**
 * Every filter, by the name of its feature. The compiler holds these lists complete: a feature without a
 * filter, or a filter without a feature, does not build. Their order in time is `FILTER_ORDER`.
 */

import type { HostFeatureName, RouteFeatureName } from "../../edge-config/policies.ts";
import { accessList } from "./access-list.ts";
import { accessLog } from "./access-log.ts";
import { addedHeaders } from "./added-headers.ts";
import { affinity } from "./affinity.ts";
import { appRoot } from "./app-root.ts";
import { backendProtocol } from "./backend-protocol.ts";
import { bandwidth } from "./bandwidth.ts";
import { basicAuth } from "./basic-auth.ts";
import { blocklist } from "./blocklist.ts";
import { bodySize } from "./body-size.ts";
import { canary } from "./canary.ts";
import { clientCertificate } from "./client-certificate.ts";
import { cookieRewrite } from "./cookie-rewrite.ts";
import { cors } from "./cors.ts";
import { customErrors } from "./custom-errors.ts";
import { customHeaders } from "./custom-headers.ts";
import { externalAuth } from "./external-auth.ts";
import type { FilterFor, HostFilterFor } from "./filter.ts";
import { globalRateLimit } from "./global-rate-limit.ts";
import { hiddenHeaders } from "./hidden-headers.ts";
import { hsts } from "./hsts.ts";
import { mirror } from "./mirror.ts";
import { nextUpstream } from "./next-upstream.ts";
import { rateLimit } from "./rate-limit.ts";
import { redirect } from "./redirect.ts";
import { redirectRewrite } from "./redirect-rewrite.ts";
import { rewrite } from "./rewrite.ts";
import { satisfy } from "./satisfy.ts";
import { sslRedirect } from "./ssl-redirect.ts";
import { timeouts } from "./timeouts.ts";
import { tracing } from "./tracing.ts";
import { upstreamTls } from "./upstream-tls.ts";
import { upstreamVhost } from "./upstream-vhost.ts";
import { wwwRedirect } from "./www-redirect.ts";

export const ROUTE_FILTERS = {
  accessList,
  accessLog,
  addedHeaders,
  affinity,
  backendProtocol,
  bandwidth,
  basicAuth,
  blocklist,
  bodySize,
  canary,
  cookieRewrite,
  cors,
  customErrors,
  customHeaders,
  externalAuth,
  globalRateLimit,
  hiddenHeaders,
  hsts,
  mirror,
  nextUpstream,
  rateLimit,
  redirect,
  redirectRewrite,
  rewrite,
  satisfy,
  sslRedirect,
  timeouts,
  tracing,
  upstreamTls,
  upstreamVhost,
} satisfies {
  readonly [N in RouteFeatureName]: FilterFor<N>;
};

export const HOST_FILTERS = { appRoot, clientCertificate, wwwRedirect } satisfies {
  readonly [N in HostFeatureName]: HostFilterFor<N>;
};
