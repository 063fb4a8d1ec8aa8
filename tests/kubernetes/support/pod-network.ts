/**
 * The pods of a cluster that has none: a gateway that checks tokens like the real one and then answers in the pods'
 * place, with the address that the edge chose. An API server takes no endpoint on loopback, and no other address is ours
 * to answer on.
 */

import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { createTokenVerifier, parseTokenKeys, TOKEN_HEADER } from "../../../edge-config/gateway-token.ts";

export const GATEWAY_KEYS = `k1:${"a2V5".repeat(11)}`;

export interface PodAnswer {
  /** `10.0.0.1` */
  readonly pod: string;
  readonly host: string;
  readonly path: string;
}

export class PodNetwork {
  readonly #server: Server;

  private constructor(server: Server) {
    this.#server = server;
  }

  static async start(): Promise<PodNetwork> {
    const verifier = createTokenVerifier(parseTokenKeys(GATEWAY_KEYS));
    const server = createServer(async (request, response) => {
      const verdict = await verifier.verify(String(request.headers[TOKEN_HEADER]), Date.now());
      if (verdict.kind === "refused") {
        response.writeHead(403).end(verdict.reason);
        return;
      }
      const answer: PodAnswer = {
        pod: verdict.target.address,
        host: verdict.target.host,
        path: request.url ?? "",
      };
      response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify(answer));
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    return new PodNetwork(server);
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  async stop(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise<void>((resolve) => this.#server.close(() => resolve()));
  }
}
