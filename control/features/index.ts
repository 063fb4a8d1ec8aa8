/**
 * Every feature, one line each, in the order of the alphabet. The compiler names the ones that are missing.
 * Not here: in which order filters run (`worker/filter-order.ts`).
 */

import type { FeatureName } from "../../edge-config/policies.ts";
import type { Group } from "../annotations/group.ts";
import { accessList } from "./access-list.ts";
import { accessLog } from "./access-log.ts";
import { addedHeaders } from "./added-headers.ts";
import { affinity } from "./affinity.ts";
import { appRoot } from "./app-root.ts";
import { backendProtocol } from "./backend-protocol.ts";
import { balancing } from "./balancing.ts";
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
import type { Feature } from "./feature.ts";
import { forwarding } from "./forwarding.ts";
import { globalRateLimit } from "./global-rate-limit.ts";
import { hiddenHeaders } from "./hidden-headers.ts";
import { hsts } from "./hsts.ts";
import { limitEnforcement } from "./limit-enforcement.ts";
import { mirror } from "./mirror.ts";
import { nextUpstream } from "./next-upstream.ts";
import { rateLimit } from "./rate-limit.ts";
import { redirect } from "./redirect.ts";
import { redirectRewrite } from "./redirect-rewrite.ts";
import { rewrite } from "./rewrite.ts";
import { satisfy } from "./satisfy.ts";
import { sslRedirect } from "./ssl-redirect.ts";
import { structures } from "./structure.ts";
import { timeouts } from "./timeouts.ts";
import { tracing } from "./tracing.ts";
import { upstreamTls } from "./upstream-tls.ts";
import { upstreamVhost } from "./upstream-vhost.ts";
import { wwwRedirect } from "./www-redirect.ts";

export const features = {
  accessList,
  accessLog,
  addedHeaders,
  affinity,
  appRoot,
  backendProtocol,
  balancing,
  bandwidth,
  basicAuth,
  blocklist,
  bodySize,
  canary,
  clientCertificate,
  cookieRewrite,
  cors,
  customErrors,
  customHeaders,
  externalAuth,
  forwarding,
  globalRateLimit,
  hiddenHeaders,
  hsts,
  limitEnforcement,
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
  wwwRedirect,
} satisfies { readonly [N in FeatureName]: Feature<N> };

/** The same as a list, in the order of the alphabet: the order of fields in every policy. */
export const featureList: readonly Feature[] = Object.values<Feature>(features).sort((a, b) =>
  a.name < b.name ? -1 : 1,
);

/** Everything that reads annotations. */
export const groups: readonly Group[] = [...featureList, ...structures];
