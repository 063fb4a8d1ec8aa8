/**
 * Load for a process of its own, so that its own work is nobody else's: keeps connections busy with GETs, one
 * request under way on each.
 *
 * Reads one order a line on standard input, `{"port", "connections", "milliseconds"}` or with `requests` in
 * place of the time, and answers each with `{"requests", "milliseconds", "failed"}`. The hosts take turns.
 */

import { connect } from "node:net";
import { createInterface } from "node:readline";

export interface LoadOrder {
  readonly port: number;
  readonly connections: number;
  /** `h0.example.com` to `h(hosts - 1).example.com`. */
  readonly hosts: number;
  /** Paths to ask for, in turn. */
  readonly paths: readonly string[];
  readonly milliseconds?: number;
  readonly requests?: number;
  /** More header lines, `Name: value`. */
  readonly headers?: readonly string[];
}

export interface LoadReport {
  readonly requests: number;
  readonly milliseconds: number;
  /** Answers other than 200, and connections that broke. */
  readonly failed: number;
}

/** As a Worker gets them: what a browser sends to follow a link, and what Cloudflare adds. */
const HEADERS = [
  "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8",
  "Accept-Encoding: gzip, br",
  "Accept-Language: en-US,en;q=0.5",
  "CDN-Loop: cloudflare; loops=1",
  "CF-Connecting-IP: 203.0.113.7",
  "CF-IPCountry: US",
  "CF-Ray: 8f1a2b3c4d5e6f70-DFW",
  'CF-Visitor: {"scheme":"https"}',
  "Cookie: session=0123456789abcdef; theme=dark",
  "Priority: u=0, i",
  "Referer: https://shop.example.com/",
  'Sec-CH-UA: "Chromium";v="142", "Not_A Brand";v="99"',
  "Sec-CH-UA-Mobile: ?0",
  'Sec-CH-UA-Platform: "Linux"',
  "Sec-Fetch-Dest: document",
  "Sec-Fetch-Mode: navigate",
  "Sec-Fetch-Site: same-origin",
  "Sec-Fetch-User: ?1",
  "Upgrade-Insecure-Requests: 1",
  "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36",
  "X-Forwarded-Proto: https",
  "X-Real-IP: 203.0.113.7",
].join("\r\n");

async function load(order: LoadOrder): Promise<LoadReport> {
  const startedAt = performance.now();
  const deadline =
    order.milliseconds === undefined ? Number.POSITIVE_INFINITY : startedAt + order.milliseconds;
  const limit = order.requests ?? Number.POSITIVE_INFINITY;
  const headers = [HEADERS, ...(order.headers ?? [])].join("\r\n");
  let sent = 0;
  let answered = 0;
  let failed = 0;
  const nextRequest = (): string | undefined => {
    if (sent >= limit || performance.now() >= deadline) return undefined;
    // A stride that shares no factor with the number of hosts visits all of them, neighbours far apart.
    const host = (sent * 7919) % order.hosts;
    const path = order.paths[sent % order.paths.length] ?? "/";
    sent++;
    return `GET ${path} HTTP/1.1\r\nHost: h${host}.example.com\r\n${headers}\r\n\r\n`;
  };
  const one = (): Promise<void> =>
    new Promise((resolve) => {
      const socket = connect({ host: "127.0.0.1", port: order.port, noDelay: true });
      const next = (): void => {
        const request = nextRequest();
        if (request === undefined) socket.end();
        else socket.write(request);
      };
      let text = "";
      socket.on("connect", next);
      socket.on("data", (chunk) => {
        text += chunk.toString("latin1");
        const head = text.indexOf("\r\n\r\n");
        if (head === -1) return;
        const length = Number(/content-length: (\d+)/i.exec(text)?.[1] ?? 0);
        if (text.length < head + 4 + length) return;
        if (text.startsWith("HTTP/1.1 200 ")) answered++;
        else failed++;
        text = "";
        next();
      });
      socket.on("error", () => failed++);
      socket.on("close", () => resolve());
    });
  await Promise.all(Array.from({ length: order.connections }, one));
  return { requests: answered, milliseconds: performance.now() - startedAt, failed };
}

for await (const line of createInterface({ input: process.stdin })) {
  process.stdout.write(`${JSON.stringify(await load(JSON.parse(line) as LoadOrder))}\n`);
}
