/**
 * Every annotation name that the last ingress-nginx controller (1.15.1) understood: what it takes, its default, what
 * it governs. The names are 136 and two aliases.
 *
 * Facts about ingress-nginx alone. What Fairlead does with a name stands where it is done: in a feature that declares
 * it (`control/features`), or in `others.ts` when there is a reason not to. What stands in neither is not done yet,
 * and everybody is told so. Source: https://github.com/kubernetes/ingress-nginx, internal/ingress/annotations.
 */

export interface KnownAnnotation {
  readonly name: string;
  readonly section: Section;
  readonly type: string;
  /** As a person would write it; absent means none. */
  readonly default?: string;
  readonly scope: "edge" | "host" | "route" | "backend";
}

/** In the order in which the reference shows them. */
export const sections = [
  "Routing, rewrites and redirects",
  "Backend selection and load balancing",
  "Session affinity",
  "Canary",
  "CORS",
  "Access control and rate limiting",
  "Authentication",
  "Headers and proxying",
  "TLS",
  "Observability, firewall and raw configuration",
] as const;

export type Section = (typeof sections)[number];

/** `name | type | default | scope`, by section: a table, so that it reads as one. */
const TABLE: Readonly<Record<Section, string>> = {
  "Routing, rewrites and redirects": `
    rewrite-target | path with $1…$9 |  | route
    use-regex | boolean | false | host
    app-root | path |  | host
    permanent-redirect | URL or path |  | route
    permanent-redirect-code | integer | 301 | route
    temporal-redirect | URL or path |  | route
    temporal-redirect-code | integer | 302 | route
    relative-redirects | boolean | false | route
    from-to-www-redirect | boolean | false | host
    ssl-redirect | boolean | true | route
    force-ssl-redirect | boolean | false | route
    preserve-trailing-slash | boolean | false | route
    use-port-in-redirects | boolean | false | route
    server-alias | comma-separated host names |  | host
    default-backend | name of a Service |  | route
    custom-http-errors | comma-separated status codes |  | route
    disable-proxy-intercept-errors | boolean | false | route
  `,
  "Backend selection and load balancing": `
    backend-protocol | HTTP, HTTPS, AUTO_HTTP, GRPC, GRPCS, FCGI | HTTP | route
    service-upstream | boolean | false | backend
    upstream-vhost | host name |  | route
    load-balance | round_robin, ewma | round_robin | backend
    upstream-hash-by | text with variables |  | backend
    upstream-hash-by-subset | boolean | false | backend
    upstream-hash-by-subset-size | integer | 3 | backend
    proxy-next-upstream | space-separated conditions | error timeout | route
    proxy-next-upstream-timeout | seconds | 0 | route
    proxy-next-upstream-tries | integer | 3 | route
  `,
  "Session affinity": `
    affinity | cookie |  | backend
    affinity-mode | balanced, persistent | balanced | backend
    affinity-canary-behavior | sticky, legacy | sticky | backend
    session-cookie-name | text | INGRESSCOOKIE | backend
    session-cookie-path | text | the rule's path | backend
    session-cookie-domain | text | the host itself | backend
    session-cookie-expires | seconds |  | backend
    session-cookie-max-age | seconds |  | backend
    session-cookie-samesite | None, Lax, Strict |  | backend
    session-cookie-conditional-samesite-none | boolean | false | backend
    session-cookie-secure | boolean | true on HTTPS | backend
    session-cookie-change-on-failure | boolean | false | backend
  `,
  Canary: `
    canary | boolean | false | backend
    canary-by-header | header name |  | backend
    canary-by-header-value | text |  | backend
    canary-by-header-pattern | regular expression |  | backend
    canary-by-cookie | cookie name |  | backend
    canary-weight | integer | 0 | backend
    canary-weight-total | integer | 100 | backend
  `,
  CORS: `
    enable-cors | boolean | false | route
    cors-allow-origin | comma-separated origins | * | route
    cors-allow-methods | comma-separated names | GET, PUT, POST, DELETE, PATCH, OPTIONS | route
    cors-allow-headers | comma-separated names | DNT,Keep-Alive,User-Agent,X-Requested-With,If-Modified-Since,Cache-Control,Content-Type,Range,Authorization | route
    cors-expose-headers | comma-separated names |  | route
    cors-allow-credentials | boolean | true | route
    cors-max-age | integer | 1728000 | route
  `,
  "Access control and rate limiting": `
    whitelist-source-range | comma-separated addresses and CIDRs |  | route
    allowlist-source-range | comma-separated addresses and CIDRs |  | route
    denylist-source-range | comma-separated addresses and CIDRs |  | route
    limit-rps | integer | 0 (off) | route
    limit-rpm | integer | 0 (off) | route
    limit-burst-multiplier | integer | 5 | route
    limit-connections | integer | 0 (off) | route
    limit-whitelist | comma-separated addresses and CIDRs |  | route
    limit-allowlist | comma-separated addresses and CIDRs |  | route
    limit-rate | integer (KB/s) | 0 | route
    limit-rate-after | integer (KB) | 0 | route
    satisfy | any, all | all | route
  `,
  Authentication: `
    auth-type | basic, digest |  | route
    auth-secret | name of a Secret |  | route
    auth-secret-type | auth-file, auth-map | auth-file | route
    auth-realm | text |  | route
    auth-url | URL with variables |  | route
    auth-method | HTTP method | GET | route
    auth-signin | URL with variables |  | route
    auth-signin-redirect-param | text | rd | route
    auth-response-headers | comma-separated header names |  | route
    auth-proxy-set-headers | name of a ConfigMap |  | route
    auth-request-redirect | text | $request_uri | route
    auth-always-set-cookie | boolean | false | route
    auth-cache-key | text with variables |  | route
    auth-cache-duration | comma-separated status codes and times | 200 202 401 5m | route
    auth-keepalive | integer | 0 | route
    auth-keepalive-share-vars | boolean | false | route
    auth-keepalive-requests | integer | 1000 | route
    auth-keepalive-timeout | seconds | 60 | route
    auth-snippet | nginx configuration |  | route
    enable-global-auth | boolean | true | route
    auth-tls-secret | name of a Secret |  | host
    auth-tls-verify-client | on, off, optional, optional_no_ca | on | host
    auth-tls-verify-depth | integer | 1 | host
    auth-tls-error-page | URL or @name |  | host
    auth-tls-pass-certificate-to-upstream | boolean | false | host
    auth-tls-match-cn | CN=regular expression |  | host
  `,
  "Headers and proxying": `
    custom-headers | name of a ConfigMap |  | route
    x-forwarded-prefix | path |  | route
    connection-proxy-header | text |  | route
    proxy-cookie-domain | off or "from to" | off | route
    proxy-cookie-path | off or "from to" | off | route
    proxy-redirect-from | text, off or default | off | route
    proxy-redirect-to | text | off | route
    http2-push-preload | boolean | false | route
    mirror-target | URL with variables |  | route
    mirror-host | name | host of the target | route
    mirror-request-body | on, off | on | route
    proxy-http-version | 1.0, 1.1 | 1.1 | route
    proxy-connect-timeout | seconds | 5 | route
    proxy-send-timeout | seconds | 60 | route
    proxy-read-timeout | seconds | 60 | route
    proxy-body-size | size | 1m | route
    client-body-buffer-size | size | 8k | route
    proxy-buffering | on, off | off | route
    proxy-buffers-number | integer | 4 | route
    proxy-buffer-size | size | 4k | route
    proxy-busy-buffers-size | size |  | route
    proxy-max-temp-file-size | size | 1024m | route
    proxy-request-buffering | on, off | on | route
    fastcgi-index | file name |  | route
    fastcgi-params-configmap | name of a ConfigMap |  | route
  `,
  TLS: `
    ssl-passthrough | boolean | false | host
    ssl-ciphers | OpenSSL list |  | host
    ssl-prefer-server-ciphers | boolean |  | host
    proxy-ssl-secret | name of a Secret |  | host
    proxy-ssl-verify | on, off | off | host
    proxy-ssl-verify-depth | integer | 1 | host
    proxy-ssl-name | name |  | host
    proxy-ssl-server-name | on, off | off | host
    proxy-ssl-ciphers | OpenSSL list | DEFAULT | host
    proxy-ssl-protocols | space-separated versions | TLSv1.2 | host
  `,
  "Observability, firewall and raw configuration": `
    enable-access-log | boolean | true | route
    enable-rewrite-log | boolean | false | route
    enable-opentelemetry | boolean | of the ConfigMap | route
    opentelemetry-trust-incoming-span | boolean | true | route
    opentelemetry-operation-name | text |  | route
    enable-modsecurity | boolean |  | route
    enable-owasp-core-rules | boolean |  | route
    modsecurity-transaction-id | text with variables |  | route
    modsecurity-snippet | nginx configuration |  | route
    configuration-snippet | nginx configuration |  | route
    server-snippet | nginx configuration |  | host
    stream-snippet | nginx configuration |  | edge
  `,
};

export const knownAnnotations: readonly KnownAnnotation[] = sections.flatMap((section) =>
  TABLE[section]
    .trim()
    .split("\n")
    .map((line): KnownAnnotation => {
      const [name = "", type = "", byDefault = "", scope = ""] = line.split("|").map((cell) => cell.trim());
      return {
        name,
        section,
        type,
        ...(byDefault === "" ? {} : { default: byDefault }),
        scope: scope as KnownAnnotation["scope"],
      };
    }),
);
