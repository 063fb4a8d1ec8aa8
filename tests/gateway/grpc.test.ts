/**
 * gRPC through the real Worker: `backend-protocol: GRPC` over HTTP/2 with prior knowledge, behind each gateway. What
 * `docs/grpc.md` promises, and what it says cannot be.
 */

import { once } from "node:events";
import { request as httpRequest, type IncomingMessage } from "node:http";
import { createServer, type Http2Server } from "node:http2";
import type { AddressInfo } from "node:net";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import type { EdgeConfig } from "../../edge-config/config.ts";
import { EdgeUnderTest } from "../edge/edge-under-test.ts";
import { implementations, type RunningGateway } from "./implementations.ts";

const KEYS = `k1:${"a2V5".repeat(11)}`;

/** A length-prefixed message, as gRPC puts it into HTTP/2 data. */
function frame(text: string, flags = 0): Buffer {
  const head = Buffer.alloc(5);
  head.writeUInt8(flags, 0);
  head.writeUInt32BE(Buffer.byteLength(text), 1);
  return Buffer.concat([head, Buffer.from(text)]);
}

let server: Http2Server;
let port: number;
const seen: Record<string, unknown>[] = [];

beforeAll(async () => {
  server = createServer();
  server.on("stream", (stream, headers) => {
    stream.on("error", () => {});
    seen.push({ authority: headers[":authority"], te: headers.te, method: headers[":method"] });
    const path = headers[":path"] ?? "";
    if (path.endsWith("/Fail")) {
      // Trailers-only: the status is in the head.
      stream.respond(
        { "content-type": "application/grpc", "grpc-status": "5", "grpc-message": "no such thing" },
        { endStream: true },
      );
      return;
    }
    const chunks: Buffer[] = [];
    stream.on("data", (chunk: Buffer) => chunks.push(chunk));
    stream.on("end", () => {
      const asked = Buffer.concat(chunks);
      const isWeb = String(headers["content-type"]).startsWith("application/grpc-web");
      stream.respond(
        { ":status": 200, "content-type": String(headers["content-type"]) },
        { waitForTrailers: !isWeb },
      );
      stream.on("wantTrailers", () => stream.sendTrailers({ "grpc-status": "0" }));
      const count = path.endsWith("/Many") ? 3 : 1;
      for (let n = 0; n < count; n++) stream.write(Buffer.concat([frame(`${n}:`), asked]));
      if (isWeb) stream.write(frame("grpc-status:0\r\n", 0x80));
      stream.end();
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  port = (server.address() as AddressInfo).port;
});

afterAll(() => {
  server.close();
});

function config(): EdgeConfig {
  return {
    version: 1,
    hosts: {
      "grpc.example": {
        matching: "kubernetes",
        routes: [
          {
            path: "/",
            pathType: "Prefix",
            ingress: "shop/grpc",
            backend: "shop/grpc:80",
            policies: { backendProtocol: { protocol: "grpc" } },
          },
        ],
      },
    },
    backends: {
      "shop/grpc:80": { namespace: "shop", service: "grpc", port: "80", endpoints: [`127.0.0.1:${port}`] },
    },
  };
}

interface Answer {
  readonly status: number | undefined;
  readonly headers: IncomingMessage["headers"];
  readonly trailers: IncomingMessage["trailers"];
  readonly body: Buffer;
}

describe.each(implementations)("gRPC by the Worker and the $name gateway", (implementation) => {
  let gateway: RunningGateway | undefined;
  let edge: EdgeUnderTest | undefined;

  beforeEach(async ({ skip }) => {
    skip(!implementation.isInstalled, `${implementation.name} is not installed`);
    seen.length = 0;
    gateway = await implementation.start({
      keys: KEYS,
      allowedCidrs: [],
      allowLoopback: true,
      connectTimeoutMs: 2_000,
      tlsSecrets: new Map(),
    });
    edge = await EdgeUnderTest.start(config(), {
      ORIGIN_TRANSPORT: "gateway",
      GATEWAY_URL: gateway.url,
      FAIRLEAD_GATEWAY_KEYS: KEYS,
    });
  });

  afterEach(async () => {
    await edge?.stop();
    await gateway?.close();
  });

  async function call(method: string, type = "application/grpc"): Promise<Answer> {
    const request = httpRequest(`${edge?.origin}/shop.Orders/${method}`, {
      method: "POST",
      headers: { host: "grpc.example", "content-type": type, te: "trailers" },
    });
    request.end(frame("order"));
    const [answer] = (await once(request, "response")) as [IncomingMessage];
    const chunks: Buffer[] = [];
    for await (const chunk of answer as AsyncIterable<Buffer>) chunks.push(chunk);
    return {
      status: answer.statusCode,
      headers: answer.headers,
      trailers: answer.trailers,
      body: Buffer.concat(chunks),
    };
  }

  test("messages pass both ways byte by byte, and the pod sees a gRPC request", async () => {
    const { status, headers, body } = await call("One");
    expect([status, headers["content-type"], body]).toEqual([
      200,
      "application/grpc",
      Buffer.concat([frame("0:"), frame("order")]),
    ]);
    expect(seen).toEqual([{ authority: "grpc.example", te: "trailers", method: "POST" }]);
    const many = await call("Many");
    expect(many.body).toEqual(
      Buffer.concat(["0:", "1:", "2:"].flatMap((text) => [frame(text), frame("order")])),
    );
  });

  test("a status in the head (an answer without messages) passes", async () => {
    const { status, headers } = await call("Fail");
    expect([status, headers["grpc-status"], headers["grpc-message"]]).toEqual([200, "5", "no such thing"]);
  });

  test("a status in trailers is lost: the platform's `fetch` has none", async () => {
    const { headers, trailers } = await call("One");
    expect([headers["grpc-status"], trailers["grpc-status"]]).toEqual([undefined, undefined]);
  });

  test("gRPC-Web, whose trailers are part of the body, works whole", async () => {
    const { body } = await call("One", "application/grpc-web+proto");
    expect(body).toEqual(Buffer.concat([frame("0:"), frame("order"), frame("grpc-status:0\r\n", 0x80)]));
  });
});
