/**
 * The answers that HAProxy makes when a pod gives none: whole HTTP answers, since HAProxy's own 503 (could not
 * connect) must be 502 at the Worker, and say why in a header.
 */

import { GATEWAY_ERROR_HEADER, type GatewayError } from "../../edge-config/gateway-token.ts";
import type { RenderedFile } from "./settings.ts";

export const errorFiles: readonly RenderedFile[] = [
  errorFile("502.http", "response", "the pod's answer broke off before its head was whole"),
  errorFile("503.http", "connect", "the pod could not be reached"),
];

function errorFile(name: string, error: GatewayError, reason: string): RenderedFile {
  const body = errorBody(reason);
  const head = [
    "HTTP/1.1 502 Bad Gateway",
    "content-type: text/plain; charset=utf-8",
    `content-length: ${body.length}`,
    "cache-control: no-store",
    `${GATEWAY_ERROR_HEADER}: ${error}`,
  ];
  return { name, text: `${head.join("\r\n")}\r\n\r\n${body}`, secret: false };
}

/** Of a rule's answer. ASCII without quotes. */
export function errorBody(reason: string): string {
  return `The gateway did not pass this request on: ${reason}.\n`;
}
