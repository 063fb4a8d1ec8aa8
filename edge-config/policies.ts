/**
 * The list of features: one field each, in the order of the alphabet, at the level where it is decided.
 *
 * A feature is one name in every layer: its policy type here and in `features/<name>.ts`, its annotations
 * in `control/features/<name>.ts`, its behaviour in `worker/filters/<name>.ts`. Add the field, and the
 * compiler names the files that you still owe. `control/features/README.md` shows the steps.
 *
 * An absent field means off, or the built-in default that the policy's own file names (5 seconds to
 * connect, say): control writes only what differs from it.
 */

import type { AccessListPolicy } from "./features/access-list.ts";
import type { AccessLogPolicy } from "./features/access-log.ts";
import type { AddedHeadersPolicy } from "./features/added-headers.ts";
import type { AffinityPolicy } from "./features/affinity.ts";
import type { AppRootPolicy } from "./features/app-root.ts";
import type { BackendProtocolPolicy } from "./features/backend-protocol.ts";
import type { BalancingPolicy } from "./features/balancing.ts";
import type { BandwidthPolicy } from "./features/bandwidth.ts";
import type { BasicAuthPolicy } from "./features/basic-auth.ts";
import type { BlocklistPolicy } from "./features/blocklist.ts";
import type { BodySizePolicy } from "./features/body-size.ts";
import type { CanaryPolicy } from "./features/canary.ts";
import type { ClientCertificatePolicy } from "./features/client-certificate.ts";
import type { CookieRewritePolicy } from "./features/cookie-rewrite.ts";
import type { CorsPolicy } from "./features/cors.ts";
import type { CustomErrorsPolicy } from "./features/custom-errors.ts";
import type { CustomHeadersPolicy } from "./features/custom-headers.ts";
import type { ExternalAuthPolicy } from "./features/external-auth.ts";
import type { ForwardingPolicy } from "./features/forwarding.ts";
import type { GlobalRateLimitPolicy } from "./features/global-rate-limit.ts";
import type { HiddenHeadersPolicy } from "./features/hidden-headers.ts";
import type { HstsPolicy } from "./features/hsts.ts";
import type { MirrorPolicy } from "./features/mirror.ts";
import type { NextUpstreamPolicy } from "./features/next-upstream.ts";
import type { LimitEnforcementPolicy, RateLimitPolicy } from "./features/rate-limit.ts";
import type { RedirectPolicy } from "./features/redirect.ts";
import type { RedirectRewritePolicy } from "./features/redirect-rewrite.ts";
import type { RewritePolicy } from "./features/rewrite.ts";
import type { SatisfyPolicy } from "./features/satisfy.ts";
import type { SslRedirectPolicy } from "./features/ssl-redirect.ts";
import type { TimeoutsPolicy } from "./features/timeouts.ts";
import type { TracingPolicy } from "./features/tracing.ts";
import type { UpstreamTlsPolicy } from "./features/upstream-tls.ts";
import type { UpstreamVhostPolicy } from "./features/upstream-vhost.ts";
import type { WwwRedirectPolicy } from "./features/www-redirect.ts";

/** What holds for every request of this edge: from the controller's ConfigMap alone. */
export interface EdgePolicies {
  readonly forwarding?: ForwardingPolicy;
  readonly limitEnforcement?: LimitEnforcementPolicy;
}

/** What a host asks of the edge before a route is chosen (nginx's server level). The oldest Ingress that sets it wins. */
export interface HostPolicies {
  readonly appRoot?: AppRootPolicy;
  readonly clientCertificate?: ClientCertificatePolicy;
  readonly wwwRedirect?: WwwRedirectPolicy;
}

/** What a route asks of the edge: from the annotations of its own Ingress. */
export interface RoutePolicies {
  readonly accessList?: AccessListPolicy;
  readonly accessLog?: AccessLogPolicy;
  readonly addedHeaders?: AddedHeadersPolicy;
  readonly affinity?: AffinityPolicy;
  readonly backendProtocol?: BackendProtocolPolicy;
  readonly bandwidth?: BandwidthPolicy;
  readonly basicAuth?: BasicAuthPolicy;
  readonly blocklist?: BlocklistPolicy;
  readonly bodySize?: BodySizePolicy;
  readonly canary?: CanaryPolicy;
  readonly cookieRewrite?: CookieRewritePolicy;
  readonly cors?: CorsPolicy;
  readonly customErrors?: CustomErrorsPolicy;
  readonly customHeaders?: CustomHeadersPolicy;
  readonly externalAuth?: ExternalAuthPolicy;
  readonly globalRateLimit?: GlobalRateLimitPolicy;
  readonly hiddenHeaders?: HiddenHeadersPolicy;
  readonly hsts?: HstsPolicy;
  readonly mirror?: MirrorPolicy;
  readonly nextUpstream?: NextUpstreamPolicy;
  readonly rateLimit?: RateLimitPolicy;
  readonly redirect?: RedirectPolicy;
  readonly redirectRewrite?: RedirectRewritePolicy;
  readonly rewrite?: RewritePolicy;
  readonly satisfy?: SatisfyPolicy;
  readonly sslRedirect?: SslRedirectPolicy;
  readonly timeouts?: TimeoutsPolicy;
  readonly tracing?: TracingPolicy;
  readonly upstreamTls?: UpstreamTlsPolicy;
  readonly upstreamVhost?: UpstreamVhostPolicy;
}

/** How requests are spread over a backend (nginx's upstream level). The oldest Ingress that names the backend decides. */
export interface BackendPolicies {
  readonly balancing?: BalancingPolicy;
}

export type EdgeFeatureName = keyof EdgePolicies;
export type HostFeatureName = keyof HostPolicies;
export type RouteFeatureName = keyof RoutePolicies;
export type BackendFeatureName = keyof BackendPolicies;
export type FeatureName = EdgeFeatureName | HostFeatureName | RouteFeatureName | BackendFeatureName;

/** The policy of a feature, by its name, whatever its level. */
export type PolicyOf<N extends FeatureName> = N extends RouteFeatureName
  ? NonNullable<RoutePolicies[N]>
  : N extends HostFeatureName
    ? NonNullable<HostPolicies[N]>
    : N extends BackendFeatureName
      ? NonNullable<BackendPolicies[N]>
      : N extends EdgeFeatureName
        ? NonNullable<EdgePolicies[N]>
        : never;
