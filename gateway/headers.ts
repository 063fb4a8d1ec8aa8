/**
 * What of the headers goes on to the pod, and what of its answer goes back. Spelling, order and repetitions
 * stay as they came.
 *
 * In and out: flat lists of name and value, as `rawHeaders` of node:http.
 */

/** Of one connection only (RFC 9110 §7.6.1, and the old `Proxy-Connection`). */
const HOP_BY_HOP: ReadonlySet<string> = new Set([
  "connection",
  "keep-alive",
  "proxy-connection",
  "te",
  "transfer-encoding",
  "upgrade",
]);

/** What the Worker's runtime adds about itself. `Expect` is settled between Worker and gateway. */
const NOT_FOR_PODS: ReadonlySet<string> = new Set(["cf-worker", "cf-ew-via", "expect", "host"]);

/** Between Worker and gateway: no pod gets them, and none may speak in the gateway's name. */
const OUR_PREFIX = "fairlead-";

/** The headers for the pod, `Host` first. Framing is not among them. */
export function headersForPod(raw: readonly string[], host: string): string[] {
  const nominated = nominatedHeaders(raw);
  const kept = ["Host", host];
  eachHeader(raw, (name, value, key) => {
    if (HOP_BY_HOP.has(key) || NOT_FOR_PODS.has(key) || key.startsWith(OUR_PREFIX)) return;
    if (!nominated.has(key)) kept.push(name, value);
  });
  return kept;
}

/** The headers for the Worker. Framing is not among them, but for `Content-Length`. */
export function headersFromPod(raw: readonly string[]): string[] {
  const nominated = nominatedHeaders(raw);
  const kept: string[] = [];
  eachHeader(raw, (name, value, key) => {
    if (!HOP_BY_HOP.has(key) && !key.startsWith(OUR_PREFIX) && !nominated.has(key)) kept.push(name, value);
  });
  return kept;
}

export function eachHeader(
  raw: readonly string[],
  visit: (name: string, value: string, lowerCaseName: string) => void,
): void {
  for (let at = 0; at + 1 < raw.length; at += 2) {
    const name = raw[at] ?? "";
    visit(name, raw[at + 1] ?? "", name.toLowerCase());
  }
}

/**
 * Names that `Connection` takes along. Length and `X-` headers stay whatever it says: nobody shall make the
 * identity of a client disappear by naming `X-Forwarded-For` there.
 */
function nominatedHeaders(raw: readonly string[]): ReadonlySet<string> {
  const names = new Set<string>();
  eachHeader(raw, (_, value, key) => {
    if (key !== "connection") return;
    for (const part of value.toLowerCase().split(",")) {
      const name = part.trim();
      if (name !== "" && name !== "content-length" && !name.startsWith("x-")) names.add(name);
    }
  });
  return names;
}

/** Name–value pairs, as `addTrailers` wants them. */
export function pairs(raw: readonly string[]): [string, string][] {
  const list: [string, string][] = [];
  eachHeader(raw, (name, value) => list.push([name, value]));
  return list;
}
