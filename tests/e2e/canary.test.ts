/** Canaries: which of two backends answers. */

import { createHash } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Edge, ingress } from "./support/edge.ts";

let edge: Edge;

/** A main Ingress and its canary. */
const pair = (
  name: string,
  canary: Record<string, string>,
  main: Record<string, string> = {},
  more: Parameters<typeof ingress>[1] = {},
) =>
  ingress("main", { host: `${name}.example.com`, name: `${name}-main`, annotations: main, ...more }) +
  ingress("next", {
    host: `${name}.example.com`,
    name: `${name}-next`,
    annotations: { canary: "true", ...canary },
    ...more,
  });

const md5 = (text: string) => createHash("md5").update(text).digest("hex");
const cookieOf = (backend: string) => `x|${md5(md5(backend) + backend)}`;

beforeAll(async () => {
  edge = await Edge.start({
    backends: { main: 1, next: 1 },
    manifests: [
      pair("header", { "canary-by-header": "X-Canary" }),
      pair("value", { "canary-by-header": "X-Canary", "canary-by-header-value": "blue" }),
      pair("pattern", { "canary-by-header": "X-Canary", "canary-by-header-pattern": "b+l[aeiou]e$" }),
      pair("value-pattern", {
        "canary-by-header": "X-Canary",
        "canary-by-header-value": "blue",
        "canary-by-header-pattern": "green",
      }),
      pair("bad-pattern", {
        "canary-by-header": "X-Canary",
        "canary-by-header-pattern": "(?=blue)",
        "canary-weight": "100",
      }),
      pair("cookie", { "canary-by-cookie": "canary" }),
      pair("order", {
        "canary-by-header": "X-Canary",
        "canary-by-cookie": "canary",
        "canary-weight": "100",
      }),
      pair("weight-0", { "canary-weight": "0" }),
      pair("weight-30", { "canary-weight": "30" }),
      pair("weight-100", { "canary-weight": "100" }),
      pair("weight-total", { "canary-weight": "100", "canary-weight-total": "1000" }),
      pair("weight-total-small", { "canary-weight": "50", "canary-weight-total": "50" }),
      pair("weight-wrong", { "canary-weight": "half" }),
      pair("empty", { "canary-weight": "", "canary-by-header": "" }),
      pair("ignored", { "canary-weight": "100", "permanent-redirect": "https://elsewhere.example" }),
      pair(
        "mains",
        { "canary-weight": "100" },
        { "upstream-vhost": "vhost.example", "x-forwarded-prefix": "/p" },
      ),
      pair("sticky", { "canary-by-header": "X-Canary" }, { affinity: "cookie" }),
      pair(
        "legacy",
        { "canary-by-header": "X-Canary", "affinity-canary-behavior": "legacy" },
        { affinity: "cookie" },
      ),
      ingress("next", { host: "alone.example.com", annotations: { canary: "true", "canary-weight": "100" } }),
      ingress("next", { host: "unmarked.example.com", annotations: { "canary-weight": "0" } }),
      ingress("next", {
        host: "unreadable.example.com",
        annotations: { canary: "yes", "canary-weight": "100" },
      }),
      pair("other-path", { "canary-weight": "100" }, {}, { paths: { "/a": "Prefix" } }),
      ingress("main", { host: "types.example.com", name: "types-main", paths: { "/a": "Exact" } }),
      ingress("next", {
        host: "types.example.com",
        name: "types-next",
        paths: { "/a": "Prefix" },
        annotations: { canary: "true", "canary-weight": "100" },
      }),
      ingress("main", { host: "dead.example.com", name: "dead-main" }),
      ingress("nothing", {
        host: "dead.example.com",
        name: "dead-next",
        annotations: { canary: "true", "canary-weight": "100" },
      }),
      ingress("main", { host: "two.example.com", name: "two-main" }),
      ingress("next", {
        host: "two.example.com",
        name: "two-b",
        annotations: { canary: "true", "canary-by-header": "X-B" },
      }),
      ingress("next", {
        host: "two.example.com",
        name: "two-a",
        annotations: { canary: "true", "canary-by-header": "X-A" },
      }),
    ].join(""),
  });
});

afterAll(async () => edge.stop());

const pod = async (name: string, headers: Record<string, string> = {}, path = "/") => {
  const reply = await edge.request({ host: `${name}.example.com`, path, headers });
  return reply.status === 200 ? reply.echo.pod : reply.status;
};

describe("canary-by-header", () => {
  test.each([
    ["header", "always", "next-0"],
    ["header", "never", "main-0"],
    ["header", "Always", "main-0"],
    ["header", "blue", "main-0"],
    ["header", undefined, "main-0"],
    ["value", "blue", "next-0"],
    ["value", "Blue", "main-0"],
    ["value", "always", "main-0"],
    ["pattern", "dark blue", "next-0"],
    ["pattern", "bbble", "main-0"],
    ["pattern", "bbblae", "next-0"],
    ["pattern", "blue sky", "main-0"],
    ["pattern", undefined, "main-0"],
    ["value-pattern", "blue", "next-0"],
    ["value-pattern", "green", "main-0"],
    // No pattern that cannot be honoured leads anybody anywhere, the weight included.
    ["bad-pattern", "blue", "main-0"],
  ] as const)("%s: %s → %s", async (name, value, want) => {
    expect(await pod(name, value === undefined ? {} : { "X-Canary": value })).toBe(want);
  });
});

test.each([
  ["canary=always", "next-0"],
  ["a=b; canary=always", "next-0"],
  ["canary=never", "main-0"],
  ["canary=other", "main-0"],
  ["Canary=always", "main-0"],
] as const)("canary-by-cookie: %s → %s", async (cookie, want) => {
  expect(await pod("cookie", { Cookie: cookie })).toBe(want);
});

test.each([
  [{ "X-Canary": "never", Cookie: "canary=always" }, "main-0"],
  [{ "X-Canary": "maybe", Cookie: "canary=never" }, "main-0"],
  [{ "X-Canary": "maybe", Cookie: "canary=maybe" }, "next-0"],
  [{ "X-Canary": "always", Cookie: "canary=never" }, "next-0"],
  [{}, "next-0"],
] as const)("header before cookie before weight: %j → %s", async (headers, want) => {
  expect(await pod("order", headers)).toBe(want);
});

describe("canary-weight", () => {
  const share = async (name: string, requests = 400) => {
    const pods = await Promise.all(Array.from({ length: requests }, () => pod(name)));
    return pods.filter((one) => one === "next-0").length / requests;
  };
  test.each([
    ["weight-0", 0],
    ["weight-wrong", 0],
    ["empty", 0],
    ["weight-100", 1],
  ] as const)("%s → %d", async (name, want) => {
    expect(await share(name, 40)).toBe(want);
  });
  // Six standard deviations: wrong once in a thousand million runs.
  test.each([
    ["weight-30", 0.3],
    ["weight-total", 0.1],
    ["weight-total-small", 0.5],
  ] as const)("%s → about %d", async (name, want) => {
    expect(Math.abs((await share(name)) - want)).toBeLessThan(6 * Math.sqrt((want * (1 - want)) / 400));
  });
});

describe("a canary and its main Ingress", () => {
  test("the canary's other annotations do nothing, the main's count for both", async () => {
    expect(await pod("ignored")).toBe("next-0");
    const reply = await edge.request({ host: "mains.example.com" });
    expect([reply.echo.pod, reply.echo.headers.host]).toEqual(["next-0", "vhost.example"]);
  });

  test.each([
    ["alone", "/", 404],
    ["unmarked", "/", "next-0"],
    ["unreadable", "/", 404],
    ["other-path", "/b", 404],
    ["other-path", "/a/b", "next-0"],
    ["types", "/a", "main-0"],
    ["types", "/a/b", 404],
    ["dead", "/", "main-0"],
  ] as const)("%s%s → %s", async (name, path, want) => {
    expect(await pod(name, {}, path)).toBe(want);
  });

  test("of two canaries of one path, the first counts alone", async () => {
    const a = await pod("two", { "X-A": "always" });
    const b = await pod("two", { "X-B": "always" });
    // Of equal age, the name that comes later in the alphabet is the elder, as in ingress-nginx.
    expect([a, b]).toEqual(["main-0", "next-0"]);
  });

  test("an update while running", async () => {
    const write = (weight: string) =>
      edge.apply({ "moving.yaml": pair("moving", { "canary-weight": weight }) });
    await write("0");
    expect(await pod("moving")).toBe("main-0");
    await write("100");
    expect(await pod("moving")).toBe("next-0");
    await edge.apply({ "moving.yaml": ingress("main", { host: "moving.example.com", name: "moving-main" }) });
    expect(await pod("moving")).toBe("main-0");
  });
});

describe("affinity-canary-behavior", () => {
  const session = async (name: string, headers: Record<string, string>) => {
    const reply = await edge.request({ host: `${name}.example.com`, headers });
    return { pod: reply.echo.pod, cookies: reply.cookies };
  };

  test("sticky: who has a session stays, whatever the rules say", async () => {
    const first = await session("sticky", { "X-Canary": "always" });
    expect(first.pod).toBe("next-0");
    const [cookie = ""] = first.cookies;
    const value = cookie.split(";")[0] ?? "";
    expect(value.endsWith(cookieOf("default-next-80").slice(1))).toBe(true);
    const again = await session("sticky", { Cookie: value, "X-Canary": "never" });
    expect([again.pod, again.cookies]).toEqual(["next-0", []]);
    const atMain = await session("sticky", {
      Cookie: `INGRESSCOOKIE=${cookieOf("default-main-80")}`,
      "X-Canary": "always",
    });
    expect(atMain.pod).toBe("main-0");
  });

  test("legacy: the rules are asked each time, and the canary sets no cookie", async () => {
    const first = await session("legacy", { "X-Canary": "always" });
    expect([first.pod, first.cookies]).toEqual(["next-0", []]);
    const main = await session("legacy", {});
    expect([main.pod, main.cookies.length]).toEqual(["main-0", 1]);
    const cookie = main.cookies[0]?.split(";")[0] ?? "";
    expect((await session("legacy", { Cookie: cookie, "X-Canary": "always" })).pod).toBe("next-0");
  });
});
