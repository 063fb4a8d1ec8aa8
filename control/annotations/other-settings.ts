/**
 * Keys of the controller's ConfigMap that no feature honours, on purpose, and why. A key that a feature declares stands
 * there and not here. Source: https://kubernetes.github.io/ingress-nginx/user-guide/nginx-configuration/configmap/
 */

import type { OtherAnnotation } from "./others.ts";

const ignored = (reason: string, advice?: string): OtherAnnotation =>
  advice === undefined ? { verdict: "ignored", reason } : { verdict: "ignored", reason, advice };
const refused = (reason: string, advice: string): OtherAnnotation => ({ verdict: "refused", reason, advice });

const NGINX = ignored("It tunes nginx's processes, buffers and connections, which the edge does not have.");
const LOG = ignored(
  "It shapes nginx's log files.",
  "Workers Logs and Logpush keep and shape the edge's logs.",
);
const TLS = ignored("TLS with clients ends at Cloudflare.", "The zone's TLS settings decide.");
const HTTP = ignored(
  "How HTTP is spoken with clients is decided at Cloudflare.",
  "The zone's network settings decide.",
);
const WAF = refused("ModSecurity runs inside nginx only.", "Use the firewall rules of the zone.");
const SNIPPET = refused(
  "It is raw nginx configuration, which nothing here executes.",
  "Move what it does to annotations or to the application.",
);
const TRACE = ignored("It configures nginx's tracing module.", "Workers' own tracing exports OpenTelemetry.");
const COMPRESSION = ignored(
  "Cloudflare compresses responses by itself.",
  "The zone's compression rules decide.",
);
const POLICY = ignored(
  "Raw configuration is never executed, and annotations are data here, so there is nothing to switch.",
);

/** Each line: what becomes of the keys that follow. */
const TABLE: readonly (readonly [OtherAnnotation, string])[] = [
  [
    NGINX,
    "worker-processes worker-cpu-affinity worker-shutdown-timeout worker-serial-reloads max-worker-connections max-worker-open-files",
  ],
  [
    NGINX,
    "map-hash-bucket-size proxy-headers-hash-bucket-size proxy-headers-hash-max-size server-name-hash-bucket-size server-name-hash-max-size variables-hash-bucket-size variables-hash-max-size",
  ],
  [
    NGINX,
    "client-header-buffer-size client-header-timeout client-body-buffer-size client-body-timeout large-client-header-buffers",
  ],
  [
    NGINX,
    "keep-alive keep-alive-requests upstream-keepalive-connections upstream-keepalive-time upstream-keepalive-timeout upstream-keepalive-requests reuse-port enable-multi-accept enable-aio-write",
  ],
  [
    NGINX,
    "proxy-buffers-number proxy-buffer-size proxy-busy-buffers-size proxy-max-temp-file-size proxy-request-buffering proxy-http-version",
  ],
  [
    NGINX,
    "lua-shared-dicts main-snippet-order debug-connections disable-ipv6 disable-ipv6-dns bind-address nginx-status-ipv4-whitelist nginx-status-ipv6-whitelist",
  ],
  [
    NGINX,
    "stream-fastopen proxy-stream-timeout proxy-stream-next-upstream proxy-stream-next-upstream-timeout proxy-stream-next-upstream-tries proxy-stream-responses",
  ],
  [
    LOG,
    "access-log-path access-log-params http-access-log-path stream-access-log-path error-log-path error-log-level log-format-escape-json log-format-escape-none log-format-upstream log-format-stream",
  ],
  [
    LOG,
    "enable-syslog syslog-host syslog-port disable-http-access-log disable-stream-access-log enable-access-log-for-default-backend skip-access-log-urls",
  ],
  [
    TLS,
    "ssl-ciphers ssl-ecdh-curve ssl-dh-param ssl-protocols ssl-reject-handshake ssl-early-data ssl-buffer-size ssl-session-cache ssl-session-cache-size ssl-session-tickets ssl-session-ticket-key ssl-session-timeout ssl-stapling ssl-stapling-verify enable-ocsp ocsp-responder",
  ],
  [
    HTTP,
    "use-http2 http2-max-field-size http2-max-header-size http2-max-requests http2-max-concurrent-streams http2-push-preload use-proxy-protocol proxy-protocol-header-timeout enable-http3",
  ],
  [
    COMPRESSION,
    "use-gzip gzip-level gzip-min-length gzip-types gzip-disable enable-brotli brotli-level brotli-min-length brotli-types",
  ],
  [WAF, "enable-modsecurity enable-owasp-modsecurity-crs modsecurity-snippet"],
  [SNIPPET, "main-snippet http-snippet server-snippet location-snippet stream-snippet global-auth-snippet"],
  [
    TRACE,
    "opentelemetry-operation-name opentelemetry-config otlp-collector-host otlp-collector-port otel-max-queuesize otel-schedule-delay-millis otel-max-export-batch-size otel-service-name otel-sampler otel-sampler-ratio otel-sampler-parent-based",
  ],
  [
    TRACE,
    "enable-opentracing opentracing-trust-incoming-span opentracing-operation-name opentracing-location-operation-name zipkin-collector-host zipkin-collector-port zipkin-service-name zipkin-sample-rate jaeger-collector-host jaeger-collector-port jaeger-endpoint jaeger-service-name jaeger-sampler-type jaeger-sampler-param jaeger-sampler-host jaeger-sampler-port jaeger-propagation-format jaeger-debug-header jaeger-baggage-header jaeger-trace-baggage-header-prefix datadog-collector-host datadog-collector-port datadog-environment datadog-service-name datadog-operation-name-override datadog-priority-sampling datadog-sample-rate",
  ],
  [
    POLICY,
    "allow-snippet-annotations annotations-risk-level annotation-value-word-blocklist strict-validate-path-type disable-path-regex-validation",
  ],
  [
    ignored(
      "Location databases are nginx's; Cloudflare tells the country of every client in a header.",
      "Read `CF-IPCountry`.",
    ),
    "use-geoip use-geoip2 geoip2-autoreload-in-minutes",
  ],
  [
    ignored("Parsing of header lines is the platform's, which drops what is malformed."),
    "enable-underscores-in-headers ignore-invalid-headers",
  ],
  [
    ignored(
      "It was removed from ingress-nginx.",
      "Use `limit-rps` or `limit-rpm`, which count exactly over the whole edge.",
    ),
    "global-rate-limit-memcached-host global-rate-limit-memcached-port global-rate-limit-memcached-connect-timeout global-rate-limit-memcached-max-idle-timeout global-rate-limit-memcached-pool-size global-rate-limit-memcached-max-connections",
  ],
  [ignored("It tunes nginx's pool of connections to the authentication service."), "global-auth-keepalive"],
  [
    ignored("Cloudflare writes its own `Server` header into every answer, and ours names no version."),
    "allow-backend-server-header server-tokens",
  ],
  [ignored("No files are served here, so there is no type to guess."), "default-type"],
  [
    ignored(
      "PROXY protocol ends before the edge.",
      "Cloudflare tells the client's address; there is nothing to set.",
    ),
    "forwarded-for-proxy-protocol",
  ],
  [
    ignored("Limits count by the client's address, as with ingress-nginx's default."),
    "limit-conn-zone-variable",
  ],
  [ignored("It was for plug-ins of nginx's Lua module, which is not here."), "plugins"],
];

export const otherSettings: Readonly<Record<string, OtherAnnotation>> = Object.fromEntries(
  TABLE.flatMap(([verdict, names]) => names.split(" ").map((name) => [name, verdict] as const)),
);

/** Keys that mean something at an edge. Those that no feature declares are not honoured yet, and are told so. */
export const edgeSettings: readonly string[] = (
  "add-headers allow-cross-namespace-resources block-cidrs block-user-agents block-referers " +
  "compute-full-forwarded-for custom-http-errors denylist-source-range disable-proxy-intercept-errors enable-real-ip " +
  "forwarded-for-header generate-request-id global-allowed-response-headers global-auth-always-set-cookie global-auth-cache-duration global-auth-cache-key " +
  "global-auth-method global-auth-request-redirect global-auth-response-headers global-auth-signin global-auth-signin-redirect-param global-auth-url " +
  "hide-headers hsts hsts-include-subdomains hsts-max-age hsts-preload http-redirect-code limit-conn-status-code limit-rate limit-rate-after limit-req-status-code " +
  "load-balance no-auth-locations no-tls-redirect-locations proxy-add-original-uri-header proxy-body-size proxy-connect-timeout proxy-cookie-domain proxy-cookie-path " +
  "proxy-next-upstream proxy-next-upstream-timeout proxy-next-upstream-tries proxy-read-timeout proxy-real-ip-cidr proxy-redirect-from proxy-redirect-to proxy-send-timeout proxy-set-headers proxy-ssl-location-only " +
  "relative-redirects retry-non-idempotent service-upstream ssl-redirect force-ssl-redirect use-forwarded-headers use-port-in-redirects whitelist-source-range"
).split(" ");
