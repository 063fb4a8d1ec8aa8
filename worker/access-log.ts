/**
 * The access log: one line of JSON for each answer, on the console, where Workers Logs, Logpush and `fairlead dev`
 * find it. `ACCESS_LOG=on` switches it on; `enable-access-log: "false"` leaves a route out.
 *
 * Written when the head of the answer is known, so it holds no count of bytes and no time of the body.
 */

import type { Exchange } from "./exchange.ts";

export interface AccessLogLine {
  /** ISO 8601, when the request came. */
  readonly time: string;
  readonly client: string;
  readonly method: string;
  readonly scheme: string;
  readonly host: string;
  /** Path and query, byte for byte. */
  readonly uri: string;
  readonly status: number;
  /** Until the head of the answer. */
  readonly milliseconds: number;
  /** `namespace/name`; absent where no Ingress was met. */
  readonly ingress?: string;
  readonly backend?: string;
  /** `address:port` of the last attempt. */
  readonly endpoint?: string;
  readonly requestId?: string;
  readonly userAgent?: string;
  readonly referer?: string;
}

/** `exchange` is absent where the request met no route. */
export function accessLogLine(
  request: Request,
  status: number,
  startedAt: number,
  exchange: Exchange | undefined,
): AccessLogLine {
  const url = request.url;
  const at = url.indexOf("/", url.indexOf("//") + 2);
  const [scheme = "", rest = ""] = url.split("://", 2);
  const upstream = exchange?.upstream;
  return {
    time: new Date(startedAt).toISOString(),
    client: exchange?.client ?? request.headers.get("cf-connecting-ip") ?? "",
    method: request.method,
    scheme,
    host: exchange?.target.authority ?? rest.split(/[/?]/, 1)[0] ?? "",
    uri:
      exchange === undefined
        ? at === -1
          ? "/"
          : url.slice(at)
        : exchange.target.rawPath + exchange.target.query,
    status,
    milliseconds: Date.now() - startedAt,
    ...present("ingress", exchange?.entry.route.ingress),
    ...present("backend", upstream?.backend?.name),
    ...present("endpoint", upstream?.usedEndpoint?.address),
    ...present("requestId", exchange?.requestId),
    ...present("userAgent", request.headers.get("user-agent")),
    ...present("referer", request.headers.get("referer")),
  };
}

function present<K extends string>(
  name: K,
  value: string | null | undefined,
): { readonly [N in K]?: string } {
  return value === undefined || value === null ? {} : ({ [name]: value } as { readonly [N in K]: string });
}
