/**
 * User name and password (RFC 7617; ngx_http_auth_basic_module).
 *
 * What was verified is remembered for a minute under HMAC-SHA-256 with a key that this isolate made for itself:
 * neither password nor hash stands in memory longer than the request needs it. Wrong passwords are remembered too,
 * so that one client that repeats itself cannot keep the isolate busy with a costly hash.
 */

import { WeightedLru } from "../lru.ts";
import type { FilterFor } from "./filter.ts";

const REMEMBERED_MILLISECONDS = 60_000;
const MAX_REMEMBERED = 2_000;

export const basicAuth: FilterFor<"basicAuth"> = ({ realm, users: { text } }) => {
  const challenge = `Basic realm="${realm}"`;
  const hashes = new Map<string, string>();
  for (const line of text.split("\n")) {
    const colon = line.indexOf(":");
    if (colon > 0) hashes.set(line.slice(0, colon), line.slice(colon + 1));
  }
  const verdicts = new WeightedLru<string, { readonly isRight: boolean; readonly until: number }>(
    MAX_REMEMBERED,
  );
  let key: CryptoKey | undefined;

  const isRight = async (user: string, password: string): Promise<boolean> => {
    const hash = hashes.get(user);
    if (hash === undefined || hash === "") return false;
    key ??= (await crypto.subtle.generateKey({ name: "HMAC", hash: "SHA-256" }, false, [
      "sign",
    ])) as CryptoKey;
    const mac = await crypto.subtle.sign("HMAC", key, new TextEncoder().encode(`${user}\0${password}`));
    const name = String.fromCharCode(...new Uint8Array(mac));
    const now = Date.now();
    const known = verdicts.get(name);
    if (known !== undefined && known.until > now) return known.isRight;
    const { verifyPassword } = await import("../passwords/verify.ts"); // Most edges never need it.
    const verdict = await verifyPassword(password, hash);
    verdicts.set(name, { isRight: verdict, until: now + REMEMBERED_MILLISECONDS }, 1);
    return verdict;
  };

  return {
    async onRequest(exchange) {
      if (exchange.isSatisfied) return undefined;
      const given = credentials(exchange.request.headers.get("authorization"));
      if (given === undefined || !(await isRight(given.user, given.password))) {
        return exchange.refuse(401, { challenge });
      }
      exchange.upstream.removeHeader("authorization"); // For the edge alone; the pod does not learn it.
      exchange.satisfy();
      return undefined;
    },
  };
};

/** The scheme compares without case; user and password are UTF-8 (RFC 7617 §2.1). */
function credentials(
  header: string | null,
): { readonly user: string; readonly password: string } | undefined {
  const [, encoded] = /^basic +([A-Za-z0-9+/=_-]+) *$/i.exec(header ?? "") ?? [];
  if (encoded === undefined) return undefined;
  let text: string;
  try {
    text = new TextDecoder().decode(Uint8Array.from(atob(encoded), (char) => char.charCodeAt(0)));
  } catch {
    return undefined;
  }
  const colon = text.indexOf(":");
  return colon === -1 ? undefined : { user: text.slice(0, colon), password: text.slice(colon + 1) };
}
