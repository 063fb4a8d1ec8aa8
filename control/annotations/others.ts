/**
 * Annotations that no feature honours, on purpose: what becomes of each, why, and what to do instead.
 *
 * `ignored`: harmless; the manifest works without it. `refused`: it asks for something that matters and is not done.
 * A name that a feature declares stands there and not here.
 */

export interface OtherAnnotation {
  readonly verdict: "ignored" | "refused";
  /** A sentence. */
  readonly reason: string;
  /** What to do, in a sentence; absent where there is nothing to do. */
  readonly advice?: string;
}

const CONNECTIONS: OtherAnnotation = {
  verdict: "ignored",
  reason:
    "It tunes nginx's pool of connections to the authentication service; the platform pools connections itself.",
};
const BUFFERS: OtherAnnotation = {
  verdict: "ignored",
  reason:
    "It tunes nginx's buffers; requests and responses stream through the edge, so there are none to tune.",
};
const FIREWALL: OtherAnnotation = {
  verdict: "refused",
  reason: "ModSecurity runs inside nginx only.",
  advice: "Switch on the managed rules and custom rules of Cloudflare's firewall for the zone.",
};
const FASTCGI: OtherAnnotation = {
  verdict: "refused",
  reason: "FastCGI is not spoken at the edge.",
  advice: "Put a small HTTP server in front of the FastCGI process, in its own pod.",
};
const UPSTREAM_TLS: OtherAnnotation = {
  verdict: "ignored",
  reason: "Versions, ciphers and depth of TLS to pods are those of the gateway, for all routes alike.",
  advice: "Set them once in the gateway's own settings, if pods need other ones.",
};
const EDGE_TLS: OtherAnnotation = {
  verdict: "ignored",
  reason: "TLS with clients ends at Cloudflare, whose zone has its own setting for ciphers.",
  advice: "Choose ciphers in the zone's TLS settings.",
};
const SNIPPET: OtherAnnotation = {
  verdict: "refused",
  reason:
    "It is raw nginx configuration, which nothing here executes; ingress-nginx itself refuses it by default.",
  advice:
    "`fairlead lint` translates the directives that have a counterpart; the rest needs a change in the application.",
};
const INFLUX: OtherAnnotation = { verdict: "ignored", reason: "It was removed from ingress-nginx in 1.0." };
const CONFIG_MAP_KEY: OtherAnnotation = {
  verdict: "ignored",
  reason: "It never was an annotation: ingress-nginx knows it as a key of the controller's ConfigMap only.",
  advice: "Set the key in the controller's ConfigMap.",
};
const OPENTRACING: OtherAnnotation = {
  verdict: "ignored",
  reason: "OpenTracing was removed from ingress-nginx in 1.10.",
  advice: "Use `enable-opentelemetry`.",
};

/** Names that the last controller knew. */
export const others: Readonly<Record<string, OtherAnnotation>> = {
  "auth-keepalive": CONNECTIONS,
  "auth-keepalive-requests": CONNECTIONS,
  "auth-keepalive-share-vars": CONNECTIONS,
  "auth-keepalive-timeout": CONNECTIONS,
  "auth-snippet": SNIPPET,
  "client-body-buffer-size": BUFFERS,
  "configuration-snippet": SNIPPET,
  "connection-proxy-header": {
    verdict: "ignored",
    reason: "`Connection` belongs to one hop (RFC 9110 §7.6.1), and the edge and the gateway own their hops.",
  },
  "enable-modsecurity": FIREWALL,
  "enable-owasp-core-rules": FIREWALL,
  "enable-rewrite-log": {
    verdict: "ignored",
    reason: "It switches nginx's debug log.",
    advice: "`fairlead explain URL` shows what happens to a request.",
  },
  "fastcgi-index": FASTCGI,
  "fastcgi-params-configmap": FASTCGI,
  "http2-push-preload": {
    verdict: "ignored",
    reason: "No browser takes HTTP/2 pushes any more, and nginx has dropped them too.",
    advice: "`Link: rel=preload` headers of the application pass through and still help.",
  },
  "modsecurity-snippet": FIREWALL,
  "modsecurity-transaction-id": {
    ...FIREWALL,
    verdict: "ignored",
    reason: "It only names entries of ModSecurity's log.",
  },
  "proxy-buffer-size": {
    ...BUFFERS,
    reason: "Mostly set against nginx's 502 for large response headers, which does not happen here.",
  },
  "proxy-buffers-number": BUFFERS,
  "proxy-busy-buffers-size": BUFFERS,
  "proxy-http-version": {
    verdict: "ignored",
    reason:
      "The platform and the gateway speak HTTP/1.1 to pods, or HTTP/2 where `backend-protocol` says so.",
  },
  "proxy-max-temp-file-size": BUFFERS,
  "proxy-request-buffering": {
    ...BUFFERS,
    reason: "Request bodies always stream to the pod, as with `off`.",
  },
  "proxy-ssl-ciphers": UPSTREAM_TLS,
  "proxy-ssl-protocols": UPSTREAM_TLS,
  "proxy-ssl-verify-depth": UPSTREAM_TLS,
  "server-snippet": SNIPPET,
  "ssl-ciphers": EDGE_TLS,
  "ssl-prefer-server-ciphers": EDGE_TLS,
  "stream-snippet": { ...SNIPPET, advice: "Use the `tcp-services` and `udp-services` ConfigMaps." },
};

/** Names that older controllers knew, or that never existed but stand in many manifests. */
export const historical: Readonly<Record<string, OtherAnnotation>> = {
  "add-base-url": { verdict: "ignored", reason: "It was removed from ingress-nginx in 0.22." },
  "base-url-scheme": { verdict: "ignored", reason: "It was removed from ingress-nginx in 0.22." },
  "client-header-buffer-size": CONFIG_MAP_KEY,
  "enable-influxdb": INFLUX,
  "enable-opentracing": OPENTRACING,
  "enable-websockets": {
    verdict: "ignored",
    reason: "It never was an annotation of ingress-nginx; WebSockets simply work.",
  },
  "grpc-backend": {
    verdict: "ignored",
    reason: "It was removed from ingress-nginx in 0.21.",
    advice: "Use `backend-protocol: GRPC`.",
  },
  hsts: CONFIG_MAP_KEY,
  "hsts-include-subdomains": CONFIG_MAP_KEY,
  "hsts-max-age": CONFIG_MAP_KEY,
  "hsts-preload": CONFIG_MAP_KEY,
  "influxdb-host": INFLUX,
  "influxdb-measurement": INFLUX,
  "influxdb-port": INFLUX,
  "influxdb-server-name": INFLUX,
  "large-client-header-buffers": CONFIG_MAP_KEY,
  "opentracing-trust-incoming-span": OPENTRACING,
  "secure-verify-ca-secret": {
    verdict: "refused",
    reason: "It was removed from ingress-nginx in 0.21, with `secure-backends`.",
    advice: 'Use `proxy-ssl-secret` and `proxy-ssl-verify: "on"`.',
  },
  "upstream-fail-timeout": {
    verdict: "ignored",
    reason: "It was removed from ingress-nginx in 0.22; endpoints that fail are put aside without it.",
  },
  "upstream-max-fails": {
    verdict: "ignored",
    reason: "It was removed from ingress-nginx in 0.22; endpoints that fail are put aside without it.",
  },
  "use-forwarded-headers": CONFIG_MAP_KEY,
};
