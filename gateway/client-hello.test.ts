import { once } from "node:events";
import { type AddressInfo, createServer } from "node:net";
import { type ConnectionOptions, connect } from "node:tls";
import fc from "fast-check";
import { beforeAll, describe, expect, test } from "vitest";
import { readClientHello } from "./client-hello.ts";

/** The first message of a real client. */
async function helloOf(options: ConnectionOptions): Promise<Buffer> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const client = connect({ host: "127.0.0.1", port: (server.address() as AddressInfo).port, ...options });
  client.on("error", () => {});
  const [socket] = await once(server, "connection");
  const [bytes] = (await once(socket, "data")) as [Buffer];
  client.destroy();
  socket.destroy();
  server.close();
  return bytes;
}

/** The same message in records of so many bytes (RFC 8446 §5.1 allows any). */
function inRecords(hello: Buffer, size: number): Buffer {
  const message = hello.subarray(5);
  const parts: Buffer[] = [];
  for (let at = 0; at < message.length; at += size) {
    const part = message.subarray(at, at + size);
    parts.push(Buffer.from([22, 3, 1, part.length >> 8, part.length & 0xff]), part);
  }
  return Buffer.concat(parts);
}

let hello: Buffer;

beforeAll(async () => {
  hello = await helloOf({ servername: "Shop.Example.com", ALPNProtocols: ["h2", "http/1.1"] });
});

describe("the server name", () => {
  test("of a client of TLS 1.3", () => {
    expect(readClientHello(hello)).toEqual({ kind: "hello", serverName: "shop.example.com" });
  });

  test("of a client of TLS 1.2", async () => {
    const old = await helloOf({ servername: "old.example.com", maxVersion: "TLSv1.2" });
    expect(readClientHello(old)).toEqual({ kind: "hello", serverName: "old.example.com" });
  });

  test("is absent where the client sends none", async () => {
    expect(readClientHello(await helloOf({}))).toEqual({ kind: "hello" });
  });

  test("is found in records of any size, with anything behind them", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 600 }),
        fc.constantFrom("", "1403030001 01", "17"),
        (size, behind) => {
          const bytes = Buffer.concat([inRecords(hello, size), Buffer.from(behind.replace(" ", ""), "hex")]);
          expect(readClientHello(bytes)).toEqual({ kind: "hello", serverName: "shop.example.com" });
        },
      ),
      { numRuns: 50 },
    );
  });

  test("is awaited while the message is not whole", () => {
    for (const bytes of [hello, inRecords(hello, 40)])
      for (let length = 0; length < bytes.length; length++)
        expect(readClientHello(bytes.subarray(0, length))).toEqual({ kind: "incomplete" });
  });
});

describe("what is no ClientHello", () => {
  test.each([
    ["HTTP", Buffer.from("GET / HTTP/1.1\r\n\r\n")],
    ["SSH", Buffer.from("SSH-2.0-OpenSSH\r\n")],
    ["a PROXY header", Buffer.from("PROXY TCP4 1.1.1.1 2.2.2.2 1 2\r\n")],
    ["an alert", Buffer.from("15030100020250", "hex")],
    ["a ServerHello", Buffer.from("160303000402000000", "hex")],
    ["an empty record", Buffer.from("1603010000", "hex")],
    [
      "a length that leads beyond the end",
      Buffer.from(
        "16030100290100002503030000000000000000000000000000000000000000000000000000000000000000ff0000",
        "hex",
      ),
    ],
  ])("%s", (_, bytes) => {
    expect(readClientHello(bytes)).toEqual({ kind: "other" });
  });

  test("no change of a byte makes it throw", () => {
    fc.assert(
      fc.property(fc.nat(hello.length - 1), fc.nat(255), (at, value) => {
        const bytes = Buffer.from(hello);
        bytes[at] = value;
        expect(["hello", "incomplete", "other"]).toContain(readClientHello(bytes).kind);
      }),
      { numRuns: 500 },
    );
  });
});
