/**
 * Through the gateway inside the cluster, which restores `Host` and dials the endpoint that the edge chose.
 * The contract is `gateway/README.md`; a token serves all requests to one target, so signing is rarely paid.
 */

import {
  createTokenSigner,
  GATEWAY_ERROR_HEADER,
  type GatewayTarget,
  parseEndpoint,
  parseTokenKeys,
  TARGET_HEADER,
  TOKEN_HEADER,
} from "../../edge-config/gateway-token.ts";
import { SettingError } from "../environment.ts";
import { DEFAULT_CONNECT_MILLISECONDS } from "../exchange.ts";
import { outgoingRequest } from "./outgoing-request.ts";
import { isChangedByFetch, urlTarget } from "./request-target.ts";
import type { Attempt, Failure, Transport } from "./transport.ts";

/** Throws `SettingError` for keys that cannot be read. */
export function gatewayTransport(fetcher: Pick<Fetcher, "fetch">, url: string, keys: string): Transport {
  const signer = readSigner(keys);
  return {
    send: async (attempt) => {
      const token = signer.sign(targetOf(attempt), Date.now());
      const signed = typeof token === "string" ? token : await token;
      const request = outgoingRequest(url + urlTarget(attempt.target), attempt);
      request.headers.set(TOKEN_HEADER, signed);
      // A client's own header of this name must never choose another path.
      if (isChangedByFetch(attempt.target)) request.headers.set(TARGET_HEADER, attempt.target);
      else request.headers.delete(TARGET_HEADER);
      return fetcher.fetch(request);
    },
    failureOf: (response) => {
      const error = response.headers.get(GATEWAY_ERROR_HEADER);
      return error === null ? undefined : failureOf(error);
    },
  };
}

/** Only `response` leaves room for the pod to have seen the request; the others ended before it. */
function failureOf(error: string): Failure {
  return {
    kind: error === "response" ? "broken" : "undelivered",
    reason: `the gateway says "${error}"`,
  };
}

function targetOf({ endpoint, scheme, http2, tls, host, connectMilliseconds }: Attempt): GatewayTarget {
  const place = parseEndpoint(endpoint);
  if (place === undefined) throw new TypeError(`${endpoint} is no endpoint`);
  const target: GatewayTarget = {
    ...place,
    scheme: http2 ? (scheme === "https" ? "h2" : "h2c") : scheme,
    host,
    ...(connectMilliseconds === DEFAULT_CONNECT_MILLISECONDS
      ? {}
      : { connectTimeoutMs: connectMilliseconds }),
  };
  if (tls === undefined || scheme !== "https") return target;
  const { secret, verifies, name } = tls;
  return { ...target, ...(name === undefined ? {} : { sni: name }), verify: verifies, tlsSecret: secret };
}

function readSigner(keys: string) {
  try {
    return createTokenSigner(parseTokenKeys(keys));
  } catch (error) {
    throw error instanceof RangeError ? new SettingError(error.message) : error;
  }
}
