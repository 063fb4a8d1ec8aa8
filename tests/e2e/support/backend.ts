/**
 * A small real HTTP server that stands for a pod.
 *
 * By default it echoes: every answer is JSON that tells which pod answered and what it saw, header by header. A handler of
 * your own replaces that; `requests` counts either way.
 */

import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import type { Duplex } from "node:stream";

/** What an echoing pod saw of a request. */
export interface Echo {
  readonly pod: string;
  readonly method: string;
  /** The request target, byte for byte. */
  readonly url: string;
  /** Names in lower case; of a header that came twice, all values joined with `, `. */
  readonly headers: Readonly<Record<string, string>>;
  /** Name, value, name, value, … as they came. */
  readonly rawHeaders: readonly string[];
  readonly body: string;
  readonly bodyBytes: number;
}

export type Handler = (request: IncomingMessage, response: ServerResponse) => void;
export type UpgradeHandler = (request: IncomingMessage, socket: Duplex, head: Buffer) => void;

/** Bodies are echoed up to this length, and counted beyond. */
const ECHOED_BODY_BYTES = 64 * 1024;

export class BackendUnderTest {
  readonly name: string;
  /** Requests that have arrived. */
  requests = 0;
  /** What they asked for, in order. */
  readonly targets: string[] = [];
  onRequest: Handler;
  onUpgrade: UpgradeHandler = (_request, socket) => socket.destroy();
  readonly #server: Server;

  private constructor(name: string, server: Server, handler?: Handler) {
    this.name = name;
    this.#server = server;
    this.onRequest = handler ?? ((request, response) => this.echo(request, response));
    server.on("request", (request, response) => {
      this.requests++;
      this.targets.push(request.url ?? "");
      this.onRequest(request, response);
    });
    server.on("upgrade", (request, socket, head) => {
      this.requests++;
      this.onUpgrade(request, socket, head);
    });
  }

  static async start(name: string, handler?: Handler): Promise<BackendUnderTest> {
    const server = createServer({ maxHeaderSize: 256 * 1024, requestTimeout: 0 });
    const backend = new BackendUnderTest(name, server, handler);
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    return backend;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  /** Answers with an `Echo`. */
  echo(request: IncomingMessage, response: ServerResponse): void {
    const chunks: Buffer[] = [];
    let bodyBytes = 0;
    request.on("data", (chunk: Buffer) => {
      bodyBytes += chunk.length;
      if (bodyBytes <= ECHOED_BODY_BYTES) chunks.push(chunk);
    });
    request.on("end", () => {
      const echo: Echo = {
        pod: this.name,
        method: request.method ?? "",
        url: request.url ?? "",
        headers: joined(request.rawHeaders),
        rawHeaders: request.rawHeaders,
        body: Buffer.concat(chunks).toString("utf8"),
        bodyBytes,
      };
      response.setHeader("Content-Type", "application/json");
      response.end(JSON.stringify(echo));
    });
  }

  async stop(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise<void>((resolve) => this.#server.close(() => resolve()));
  }
}

function joined(rawHeaders: readonly string[]): Readonly<Record<string, string>> {
  const headers: Record<string, string> = {};
  for (let i = 0; i + 1 < rawHeaders.length; i += 2) {
    const name = (rawHeaders[i] ?? "").toLowerCase();
    const value = rawHeaders[i + 1] ?? "";
    headers[name] = headers[name] === undefined ? value : `${headers[name]}, ${value}`;
  }
  return headers;
}

/** A Service of type ClusterIP and one EndpointSlice for each pod: real manifests, on loopback. */
export function serviceManifests(
  name: string,
  pods: readonly { readonly port: number; readonly ready?: boolean }[],
  options: { readonly namespace?: string; readonly servicePort?: number; readonly portName?: string } = {},
): string {
  const { namespace = "default", servicePort = 80, portName = "http" } = options;
  const documents = [
    `apiVersion: v1
kind: Service
metadata: {name: ${name}, namespace: ${namespace}}
spec:
  ports:
  - {name: ${portName}, port: ${servicePort}, targetPort: 8080}
`,
    ...pods.map(
      ({ port, ready = true }, index) => `apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: ${name}-${index}
  namespace: ${namespace}
  labels: {kubernetes.io/service-name: ${name}}
addressType: IPv4
ports:
- {name: ${portName}, port: ${port}, protocol: TCP}
endpoints:
- addresses: [127.0.0.1]
  conditions: {ready: ${ready}}
`,
    ),
  ];
  return documents.join("---\n");
}
