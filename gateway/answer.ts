/** Answers that the gateway makes itself: the status, a header that says why, and a sentence for people. */

import type { ServerResponse } from "node:http";
import { GATEWAY_ERROR_HEADER, type GatewayError } from "../edge-config/gateway-token.ts";

const STATUS: Readonly<Record<GatewayError, number>> = {
  token: 403,
  expired: 403,
  address: 403,
  connect: 502,
  response: 502,
};

export function answerError(response: ServerResponse, error: GatewayError, reason: string): void {
  if (response.headersSent || response.destroyed) {
    response.destroy();
    return;
  }
  const body = `The gateway did not pass this request on: ${reason}.\n`;
  response.writeHead(STATUS[error], {
    "content-type": "text/plain; charset=utf-8",
    "content-length": Buffer.byteLength(body),
    "cache-control": "no-store",
    [GATEWAY_ERROR_HEADER]: error,
  });
  response.end(body);
}
