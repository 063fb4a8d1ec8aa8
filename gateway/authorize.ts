/**
 * From a request to the one address that it may be sent to: checks the token, resolves a name, checks the
 * address. What is dialled afterwards is the very address that was checked, so a name that resolves
 * differently a moment later gains nothing.
 */

import { lookup } from "node:dns/promises";
import { isIP } from "node:net";
import {
  type GatewayError,
  type GatewayTarget,
  TARGET_HEADER,
  TOKEN_HEADER,
  type TokenVerifier,
} from "../edge-config/gateway-token.ts";

/** A checked way to a pod. */
export interface Route {
  readonly target: GatewayTarget;
  /** The address to dial; `target.address` unless that is a name. */
  readonly ip: string;
  /** Request target for the pod, where it is not the request's own. */
  readonly requestTarget?: string;
}

/** Origin form (RFC 9112 §3.2.1) of any bytes that end no request line. */
const REQUEST_TARGET = /^\/[\x21-\x7e\x80-\xff]*$/;

export type Authorization =
  | { readonly kind: "route"; readonly route: Route }
  | { readonly kind: "refused"; readonly error: GatewayError; readonly reason: string };

export interface AuthorizeSettings {
  readonly verifier: TokenVerifier;
  readonly allows: (address: string) => boolean;
}

/** `headers` as node:http gives them; two tokens come as an array or joined by a comma, and neither is a token. */
export async function authorize(
  headers: Readonly<Record<string, string | readonly string[] | undefined>>,
  { verifier, allows }: AuthorizeSettings,
): Promise<Authorization> {
  const token = headers[TOKEN_HEADER];
  if (typeof token !== "string") return { kind: "refused", error: "token", reason: "there is no token" };
  const verdict = await verifier.verify(token, Date.now());
  if (verdict.kind === "refused") return verdict;
  const { target } = verdict;
  const requestTarget = headers[TARGET_HEADER];
  if (
    requestTarget !== undefined &&
    (typeof requestTarget !== "string" || !REQUEST_TARGET.test(requestTarget))
  )
    return { kind: "refused", error: "token", reason: "its target is malformed" };
  if (isIP(target.address) !== 0) return checked(target, requestTarget, [target.address], allows);
  try {
    const found = await lookup(target.address, { all: true });
    return checked(
      target,
      requestTarget,
      found.map(({ address }) => address),
      allows,
    );
  } catch {
    return { kind: "refused", error: "connect", reason: `${target.address} does not resolve` };
  }
}

function checked(
  target: GatewayTarget,
  requestTarget: string | undefined,
  addresses: readonly string[],
  allows: (address: string) => boolean,
): Authorization {
  const ip = addresses.find(allows);
  if (ip !== undefined)
    return {
      kind: "route",
      route: { target, ip, ...(requestTarget === undefined ? {} : { requestTarget }) },
    };
  return {
    kind: "refused",
    error: "address",
    reason: `${target.address} is not among the addresses that this gateway may dial`,
  };
}
