/** What arrives on the wire: hosts and targets as clients of all kinds send them. */

import { connect } from "node:net";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Edge, ingress } from "./support/edge.ts";

let edge: Edge;

beforeAll(async () => {
  edge = await Edge.start({
    backends: { a: 1, b: 1 },
    manifests:
      ingress("a", { host: "raw.example.com" }) +
      ingress("b", { name: "exact", host: "raw.example.com", paths: { "/a/b": "Exact" } }),
  });
});

afterAll(() => edge?.stop());

/** Sends text as it is and returns what comes back until the connection ends. */
function exchange(text: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect(Number(edge.url.port), "127.0.0.1");
    let answer = "";
    socket.setEncoding("latin1");
    socket.on("data", (chunk: string) => {
      answer += chunk;
    });
    socket.on("close", () => resolve(answer));
    socket.on("error", reject);
    socket.write(text);
  });
}

function get(target: string, ...headers: readonly string[]): Promise<string> {
  return exchange(
    `GET ${target} HTTP/1.1\r\n${headers.map((header) => `${header}\r\n`).join("")}Connection: close\r\n\r\n`,
  );
}

const statusOf = (answer: string): number => Number(/^HTTP\/1\.[01] (\d+)/.exec(answer)?.[1]);
const podOf = (answer: string): string | undefined => /"pod":"([^"]+)"/.exec(answer)?.[1];
const urlOf = (answer: string): string | undefined => /"url":"((?:[^"\\]|\\.)+)"/.exec(answer)?.[1];

describe("a Host that is none gets 400", () => {
  test.each<[string, readonly string[]]>([
    ["missing", []],
    ["empty", ["Host:"]],
    ["two of them", ["Host: raw.example.com", "Host: other.example.com"]],
    ["a blank within", ["Host: raw example.com"]],
    ["two dots", ["Host: raw..example.com"]],
    ["a port that is none", ["Host: raw.example.com:http"]],
  ])("%s", async (_name, headers) => {
    expect(statusOf(await get("/", ...headers))).toBe(400);
  });
});

describe("a target that is none gets 400", () => {
  test.each(["/..", "/a/../../b", "/%2e%2e/x", "/%00", "/a%0", "/%zz", "/a b"])("%s", async (target) => {
    expect(statusOf(await get(target, "Host: raw.example.com"))).toBe(400);
  });
});

describe("a path is matched as what it means, and passed on as it came", () => {
  test.each<[string, string]>([
    ["/a/b", "b-0"],
    ["/a//b", "b-0"],
    ["/a/./b", "b-0"],
    ["/x/../a/b", "b-0"],
    ["/a%2Fb", "b-0"],
    ["/%61/b?q=%2e&r=a b".replace(" ", "+"), "b-0"],
    ["/a%2fb", "b-0"],
    ["/A/b", "a-0"],
    ["/a/b/", "a-0"],
    ["/a/b;x=1", "a-0"],
    ["/~user/(x)[y]{z}|'\"^", "a-0"],
    ["/ä", "a-0"],
  ])("%s", async (target, pod) => {
    const answer = await get(target, "Host: raw.example.com");
    expect(podOf(answer)).toBe(pod);
  });

  test.each(["/a//b", "/a%2Fb", "/%61/b?q=1//2/../3"])("%s reaches the pod byte for byte", async (target) => {
    expect(urlOf(await get(target, "Host: raw.example.com"))).toBe(target);
  });
});

describe("a path that `fetch` would write anew reaches the pod as the client wrote it, and leads where it was matched", () => {
  test.each([
    ["/x/../a/b", "b-0"],
    ["/%2e%2e%2fa", 400],
    ["/x\\..\\a/b", "a-0"],
    ["/\\a\\b", "a-0"],
    ["/a/..%2Fa/b", "b-0"],
    ["/a/%2E%2E/a/b", "b-0"],
    ["/a/./b", "b-0"],
    ["/a/b/.", "a-0"],
    ["/|{}^'", "a-0"],
    ["/a/b?x='|{}^&y=../..", "b-0"],
  ] as const)("%s", async (target, want) => {
    const answer = await get(target, "Host: raw.example.com");
    if (want === 400) expect(statusOf(answer)).toBe(400);
    else expect([podOf(answer), JSON.parse(`"${urlOf(answer)}"`)]).toEqual([want, target]);
  });

  test("a client cannot choose another one in a header", async () => {
    const answer = await get("/a/b", "Host: raw.example.com", "Fairlead-Target: /secret");
    expect([podOf(answer), urlOf(answer), answer.includes("fairlead-target")]).toEqual([
      "b-0",
      "/a/b",
      false,
    ]);
  });
});

describe("hosts in other spellings", () => {
  test.each(["RAW.Example.COM", "raw.example.com:1", "raw.example.com:99999", "raw.example.com."])(
    "%s",
    async (host) => {
      const answer = await get("/", `Host: ${host}`);
      expect(podOf(answer)).toBe("a-0");
      expect(answer).toContain(`"host":"${host}"`);
    },
  );

  test("in the request line (RFC 9112 §3.2.2)", async () => {
    expect(podOf(await get("http://raw.example.com/x", "Host: raw.example.com"))).toBe("a-0");
  });
});

test("a client that has sent its request may close its sending side and still gets its answer", async () => {
  const answer = await new Promise<string>((resolve, reject) => {
    const socket = connect({ port: Number(edge.url.port), host: "127.0.0.1", allowHalfOpen: true });
    let text = "";
    socket.on("data", (chunk: Buffer) => {
      text += chunk.toString("latin1");
    });
    socket.on("close", () => resolve(text));
    socket.on("error", reject);
    socket.end("GET /x HTTP/1.1\r\nHost: raw.example.com\r\nConnection: close\r\n\r\n");
  });
  expect(podOf(answer)).toBe("a-0");
});

test("two requests on one connection, the second sent before the first was answered", async () => {
  const one = "GET /1 HTTP/1.1\r\nHost: raw.example.com\r\n\r\n";
  const two = "GET /a/b HTTP/1.1\r\nHost: raw.example.com\r\nConnection: close\r\n\r\n";
  const answer = await exchange(one + two);
  expect([...answer.matchAll(/"pod":"([^"]+)"/g)].map((match) => match[1])).toEqual(["a-0", "b-0"]);
});

describe("what a client may not forge", () => {
  test("the headers that tell pods about the client", async () => {
    const reply = await edge.request({
      host: "raw.example.com:8080",
      clientAddress: "203.0.113.9",
      headers: {
        "X-Forwarded-For": "1.2.3.4",
        "X-Real-IP": "1.2.3.4",
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Host": "evil.example.com",
        "X-Forwarded-Port": "1",
        "X-Scheme": "https",
      },
    });
    expect(reply.echo.headers).toMatchObject({
      host: "raw.example.com:8080",
      "x-forwarded-for": "203.0.113.9",
      "x-real-ip": "203.0.113.9",
      "x-forwarded-proto": "http",
      "x-forwarded-host": "raw.example.com:8080",
      "x-forwarded-port": edge.url.port,
      "x-scheme": "http",
    });
  });

  test("without a front that tells, the client is who has connected", async () => {
    const reply = await edge.request({ host: "raw.example.com" });
    expect(reply.echo.headers["x-real-ip"]).toBe("127.0.0.1");
  });
});
