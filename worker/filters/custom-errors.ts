/**
 * Error pages from a service (nginx's error_page with proxy_intercept_errors).
 *
 * The page replaces the whole answer: headers of other features are not on it, as in nginx, which has left the
 * location by then. Two differences: a 401 or 403 of an access check, and the 500 of one that could not be made, keep
 * their status, so no page can turn a refusal into a success (CVE-2026-24513); and the service gets no body, which
 * may have gone to the pod.
 */

import { errorPage } from "../error-page.ts";
import type { Exchange } from "../exchange.ts";
import { fetchBackend } from "../origin/destination.ts";
import { clientResponse, upstreamHeaders } from "../origin/headers.ts";
import type { Answer, FilterFor } from "./filter.ts";
import { requestUri } from "./location.ts";

const REFUSALS: ReadonlySet<number> = new Set([401, 403, 500]);

export const customErrors: FilterFor<"customErrors"> = (policy, { host }) => {
  const statuses = new Set(policy.statuses);
  const pages = policy.backend === undefined ? undefined : host.backends.get(policy.backend);

  const page = async (answer: Answer, exchange: Exchange): Promise<Answer> => {
    answer.body?.cancel().catch(() => {}); // Nobody reads it.
    const headers = upstreamHeaders(exchange);
    for (const name of ["content-length", "content-type", "transfer-encoding"]) headers.delete(name);
    for (const [name, value] of errorHeaders(answer.status, exchange)) headers.set(name, value);
    const response =
      pages === undefined
        ? undefined
        : await fetchBackend(exchange, pages, {
            scheme: "http",
            host: exchange.target.authority,
            target: `/${exchange.target.query}`,
            method: exchange.request.method,
            headers,
            body: null,
          });
    const keepsStatus = exchange.answeredBy === "filter" && REFUSALS.has(answer.status);
    if (response === undefined)
      return errorPage(keepsStatus ? answer.status : pages === undefined ? 404 : 502);
    const shown = clientResponse(response);
    return keepsStatus && shown.status !== answer.status
      ? new Response(shown.body, { status: answer.status, headers: shown.headers })
      : shown;
  };

  return {
    onRequest(exchange) {
      const { upstream } = exchange;
      if (!policy.takesOver || pages === undefined || pages.endpoints.length === 0) return undefined;
      if (upstream.backend !== undefined && upstream.backend.endpoints.length > 0) return undefined;
      upstream.backend = pages;
      for (const [name, value] of errorHeaders(503, exchange)) upstream.setHeader(name, value);
      return undefined;
    },
    onResponse(answer, exchange) {
      if (!statuses.has(answer.status)) return undefined;
      if (exchange.answeredBy === "origin" && (policy.passesPodErrors || exchange.upstream.backend === pages))
        return undefined;
      return page(answer, exchange);
    },
  };
};

function errorHeaders(
  status: number,
  exchange: Exchange,
): readonly (readonly [name: string, value: string])[] {
  const { request, entry } = exchange;
  const [namespace = "", ingress = ""] = (entry.route.ingress ?? "").split("/");
  const backend = entry.backend?.backend;
  return [
    ["X-Code", String(status)],
    ["X-Format", request.headers.get("accept") ?? ""],
    ["X-Original-URI", requestUri(exchange)],
    ["X-Namespace", namespace],
    ["X-Ingress-Name", ingress],
    ["X-Service-Name", backend?.service ?? ""],
    ["X-Service-Port", backend?.port ?? ""],
    ["X-Request-ID", exchange.requestId],
  ];
}
