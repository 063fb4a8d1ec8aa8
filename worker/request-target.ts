/**
 * What a request asks for, cut from its URL by hand: `new URL` costs ten times as much and would resolve and
 * re-encode the path before we have seen it.
 */

export interface RequestTarget {
  readonly scheme: "http" | "https";
  /** `Host` as the client sent it, with its port. */
  readonly authority: string;
  /** The authority in lower case, without port and without a trailing dot: the key of a host's routes. */
  readonly host: string;
  /** As sent; begins with `/`. */
  readonly rawPath: string;
  /** The port that the client reached, where a proxy in front of the edge tells (`forwarding.ts`). */
  readonly port?: string;
  /** As sent, with its `?`; empty if there is none. */
  readonly query: string;
}

/** `undefined` where nginx answers 400: a malformed `Host`. */
export function readRequestTarget(url: string): RequestTarget | undefined {
  const isTls = url.startsWith("https:");
  const start = isTls ? 8 : 7;
  let slash = url.indexOf("/", start);
  let mark = url.indexOf("?", start);
  if (mark !== -1 && mark < slash) slash = -1; // The slash belongs to the query: there is no path.
  const end = slash !== -1 ? slash : mark !== -1 ? mark : url.length;
  if (mark === -1) mark = url.length;
  let authority = url.slice(start, end);
  // `OPTIONS *` has no path; workerd hangs its target on to the authority.
  if (authority.endsWith("*")) authority = authority.slice(0, -1);
  const host = hostOf(authority);
  if (host === undefined) return undefined;
  return {
    scheme: isTls ? "https" : "http",
    authority,
    host,
    rawPath: slash === -1 ? "/" : url.slice(slash, mark),
    query: url.slice(mark),
  };
}

const PLAIN_HOST = /^[a-z0-9-]+(?:\.[a-z0-9-]+)*$/;
const HOST = /^(\[[0-9a-f:.]+\]|[^\s/:\\?#@[\]]+)(?::[0-9]*)?$/;

/** nginx's `ngx_http_validate_host`: any name will do that holds no empty label and nothing that ends a host. */
function hostOf(authority: string): string | undefined {
  if (PLAIN_HOST.test(authority)) return authority;
  const host = HOST.exec(authority.toLowerCase())?.[1];
  if (host === undefined || host.includes("..") || host.startsWith(".")) return undefined;
  return host.endsWith(".") ? host.slice(0, -1) : host;
}
