/** A plain HTTP client: the path goes out byte for byte, and nothing that came is interpreted. */

import { request as httpRequest, type IncomingMessage } from "node:http";
import { connect } from "node:net";

export interface Reply {
  readonly status: number;
  readonly reason: string;
  /** Lower-case names; `set-cookie` and other repeated headers as a list. */
  readonly headers: Readonly<Record<string, string | readonly string[] | undefined>>;
  readonly body: Buffer;
}

export interface Ask {
  readonly method?: string;
  /** Sent as it is. */
  readonly path?: string;
  readonly host?: string;
  readonly headers?: Readonly<Record<string, string | readonly string[]>>;
  readonly body?: string | Buffer;
}

/** The head of the answer, its body still to come. */
export function open(port: number, ask: Ask): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    const request = httpRequest(
      {
        host: "127.0.0.1",
        port,
        method: ask.method ?? "GET",
        path: ask.path ?? "/",
        headers: { Host: ask.host ?? "shop.example.com", ...ask.headers } as Record<string, string>,
        agent: false,
      },
      resolve,
    );
    request.once("error", reject);
    request.end(ask.body);
  });
}

export async function ask(port: number, what: Ask): Promise<Reply> {
  const message = await open(port, what);
  const chunks: Buffer[] = [];
  for await (const chunk of message) chunks.push(chunk as Buffer);
  return {
    status: message.statusCode ?? 0,
    reason: message.statusMessage ?? "",
    headers: message.headers,
    body: Buffer.concat(chunks),
  };
}

/** Everything that comes back for these bytes, until the other side closes. */
export function askRaw(port: number, bytes: string): Promise<string> {
  return new Promise((resolve, reject) => {
    let text = "";
    const socket = connect(port, "127.0.0.1", () => socket.write(bytes, "latin1"));
    socket.on("data", (chunk) => {
      text += chunk.toString("latin1");
    });
    socket.once("error", reject);
    socket.once("close", () => resolve(text));
  });
}
