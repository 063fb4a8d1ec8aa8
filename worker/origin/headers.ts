/**
 * Headers on their way to the pod and back (reference §0.7; RFC 9110 §7.6).
 *
 * In: the client's request, or the pod's answer. Out: what the other side gets. What the runtime does by itself
 * is not done again: it drops Connection, Keep-Alive, TE, Trailer, Transfer-Encoding and Upgrade (but for a
 * WebSocket's) in both directions, and sets Host.
 */

import type { Exchange } from "../exchange.ts";

/**
 * Names that a client may not give to a pod. `x-original-*` would lie about what the client sent, `proxy` is
 * CVE-2016-5385 (HTTPoxy), `expect` is settled between client and edge, the token is the gateway's. One with an
 * underscore could pose as one with a dash in a CGI environment.
 *
 * Asked for every header of every request, so most are told by their first letter alone.
 */
function isDropped(name: string): boolean {
  switch (name.charCodeAt(0)) {
    case LETTER_E:
      if (name === "expect") return true;
      break;
    case LETTER_F:
      if (name === "fairlead-token") return true;
      break;
    case LETTER_K:
      if (name === "keep-alive") return true;
      break;
    case LETTER_P:
      if (name === "proxy") return true;
      break;
    case LETTER_T:
      if (name === "te") return true;
      break;
    case LETTER_X:
      if (name === "x-original-forwarded-for" || name === "x-original-forwarded-host") return true;
      break;
  }
  return name.includes("_");
}

const [LETTER_E, LETTER_F, LETTER_K, LETTER_P, LETTER_T, LETTER_X] = [0x65, 0x66, 0x6b, 0x70, 0x74, 0x78];

/** The client's headers without those that no pod and no service shall believe. */
export function clientHeaders(request: Request): Headers {
  const headers = new Headers(request.headers);
  for (const name of request.headers.keys()) if (isDropped(name)) headers.delete(name);
  return headers;
}

/** The client's headers as a pod gets them (`dressHeaders`), for whoever asks a service about a request. */
export function upstreamHeaders(exchange: Exchange): Headers {
  const headers = new Headers(exchange.request.headers);
  dressHeaders(headers, exchange);
  return headers;
}

/** Puts nginx's headers in place of the client's, the edits of filters last. `headers`: a copy of the client's. */
export function dressHeaders(headers: Headers, exchange: Exchange): void {
  const incoming = exchange.request.headers;
  let hasForwardedFor = false;
  let hasForwardedHost = false;
  // Names come in lower case; asking for them alone costs half of asking for values too.
  for (const name of incoming.keys()) {
    if (name === "x-forwarded-for") hasForwardedFor = true;
    else if (name === "x-forwarded-host") hasForwardedHost = true;
    else if (isDropped(name)) headers.delete(name);
  }
  if (hasForwardedFor) setOrDelete(headers, "X-Original-Forwarded-For", incoming.get("x-forwarded-for"));
  if (hasForwardedHost) setOrDelete(headers, "X-Original-Forwarded-Host", incoming.get("x-forwarded-host"));

  const { client, target } = exchange;
  const { scheme } = target;
  const told = exchange.edge.forwarding?.policy;
  setOrDelete(headers, "X-Request-ID", exchange.requestId);
  setOrDelete(headers, "X-Real-IP", client);
  setOrDelete(headers, "X-Forwarded-For", told?.appends === true ? appended(exchange) : client);
  if (told?.tellsOriginalUri === true)
    headers.set("X-Original-Uri", exchange.target.rawPath + exchange.target.query);
  headers.set("X-Forwarded-Host", target.authority);
  headers.set("X-Forwarded-Port", exchange.port);
  headers.set("X-Forwarded-Proto", scheme);
  headers.set("X-Forwarded-Scheme", scheme);
  headers.set("X-Scheme", scheme);

  const edits = exchange.upstream.headerEdits;
  if (edits !== undefined) for (const [name, value] of edits) setOrDelete(headers, name, value);
}

/** The client's own text with the peer's address behind it, unless the platform has put it there already. */
function appended({ request, peer }: Exchange): string {
  const given = request.headers.get("x-forwarded-for") ?? "";
  if (given === "") return peer;
  return given.split(",").at(-1)?.trim() === peer ? given : `${given}, ${peer}`;
}

function setOrDelete(headers: Headers, name: string, value: string | null | undefined): void {
  if (value) headers.set(name, value);
  else headers.delete(name);
}

/** Of a pod's answer, what nginx keeps to itself. */
const KEPT = [
  "server",
  "x-accel-redirect",
  "x-accel-expires",
  "x-accel-limit-rate",
  "x-accel-buffering",
  "x-accel-charset",
] as const;

/**
 * The pod's answer with mutable headers, for whoever changes them. The body is handed on as it is: never read, so
 * compressed bytes stay as they are, and a WebSocket goes with it.
 */
export function clientResponse(response: Response): Response {
  const answer = new Response(response.body, response);
  const { headers } = answer;
  for (const name of KEPT) headers.delete(name);
  return answer;
}

/** The same where nobody changes it: copied only if there is something to take off, since a copy costs a tenth of a request. */
export function untouchedResponse(response: Response): Response {
  const { headers } = response;
  for (const name of KEPT) if (headers.has(name)) return clientResponse(response);
  return response;
}
