/** Who may come: by address, by password, and what is enough. Status, challenge and what the pod learns, to the letter. */

import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Edge, ingress } from "./support/edge.ts";

let edge: Edge;

const site = (name: string, annotations: Record<string, string>) =>
  ingress("web", { host: `${name}.example.com`, annotations });

const secret = (name: string, stringData: Record<string, string>, namespace = "default") =>
  `---\n${JSON.stringify({ apiVersion: "v1", kind: "Secret", metadata: { name, namespace }, stringData })}\n`;

const basic = (more: Record<string, string> = {}) => ({
  "auth-type": "basic",
  "auth-secret": "users",
  ...more,
});

/** Each is the hash of `secret`, made by openssl, perl's crypt and libxcrypt. */
const HASHES = {
  bcrypt2b: "$2b$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW",
  bcrypt2y: "$2y$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW",
  bcrypt2a: "$2a$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW",
  apr1: "$apr1$saltsalt$LrttParrLPdxvgutaSXWJ0",
  md5: "$1$saltsalt$9xy1btjgzLYfb7hivXtC//",
  sha256: "$5$saltsalt$0IyaXrmV7.sGNS6tirgqHLqX/G.FBvgkYA.lpPdS5sA",
  sha256rounds: "$5$rounds=1000$saltsalt$eKLZU9t9OoPWrqOQsoTIKG0aYkZ5rGOoOQhiIvoSWX2",
  sha512:
    "$6$saltsalt$TVLlQcbpFVof5W3Yz4DTP6gRstiNuHwwTt6GLc1E5n0U0aDehy0S5knV8wiOQSpT0Y77vwPZN.Pq.H91p5hVO1",
  des: "abNANd1rDfiNc",
  sha1: "{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=",
  salted: "{SSHA}gVK8WC9YyFT1gMsQHTGCgT3sSv5zYWx0",
  plain: "{PLAIN}secret",
};
/** Hashes of nothing: nobody comes in by these. */
const NO_HASHES = {
  bare: "secret",
  empty: "",
  cut: "$2y$04$abcdefghijklmnopqrstuu",
  unknown: "$9$saltsalt$abc",
  locked: "!",
  badBase64: "{SSHA}***",
};

const HTPASSWD = [
  "# a comment:secret",
  ...Object.entries({ ...HASHES, ...NO_HASHES }).map(([user, hash]) => `${user}:${hash}`),
  "twice:{PLAIN}first",
  "twice:{PLAIN}second",
  "third:{PLAIN}secret:a third field",
  "crlf:{PLAIN}secret\r",
  "noline",
  "sécret:$6$rounds=2000$saltsalt$wTX2YP0veC/ZuwmAQjluRcC8P1Gpx4jGsEAV8aPf2SqJ40jqWhAzK1G.xHJU9WbT0McGdO/e5WCNSn0Z23HJ61",
].join("\n");

beforeAll(async () => {
  edge = await Edge.start({
    backends: {
      web: 1,
      auth: (request, response) => {
        response.statusCode = Number(request.url?.slice(1));
        if (response.statusCode === 401) response.setHeader("WWW-Authenticate", "Bearer");
        response.setHeader("X-Seen-Authorization", request.headers.authorization ?? "none");
        response.end();
      },
    },
    manifests: [
      secret("users", { auth: HTPASSWD }),
      secret("by-name", { alice: HASHES.apr1, bob: `${HASHES.sha1}\n`, carol: "secret" }),
      secret("no-key", { users: HTPASSWD }),
      secret("users", { auth: HTPASSWD }, "other"),

      site("allow", { "allowlist-source-range": "192.0.2.0/24, 198.51.100.7,2001:db8::/32" }),
      site("white", { "whitelist-source-range": "192.0.2.0/24" }),
      site("both-names", {
        "whitelist-source-range": "0.0.0.0/0",
        "allowlist-source-range": "192.0.2.0/24",
      }),
      site("old-name", { "ingress.kubernetes.io/whitelist-source-range": "192.0.2.0/24" }),
      site("deny", { "denylist-source-range": "192.0.2.0/24,2001:db8::1" }),
      site("deny-allow", {
        "denylist-source-range": "192.0.2.128/25",
        "allowlist-source-range": "192.0.2.0/24",
      }),
      site("list-empty", { "allowlist-source-range": "", "denylist-source-range": "" }),
      site("allow-wrong", { "allowlist-source-range": "everybody" }),
      site("allow-half", { "allowlist-source-range": "192.0.2.0/24, everybody" }),
      site("deny-wrong", { "denylist-source-range": "10.0.0.0/33" }),

      site("basic", basic({ "auth-realm": "Staff only" })),
      site("no-realm", basic()),
      site("map", basic({ "auth-secret": "default/by-name", "auth-secret-type": "auth-map" })),
      site("wrong-type", basic({ "auth-secret-type": "auth-list" })),
      site("digest", basic({ "auth-type": "digest" })),
      site("nonsense", basic({ "auth-type": "yes" })),
      site("no-secret", { "auth-type": "basic" }),
      site("missing-secret", basic({ "auth-secret": "nobody" })),
      site("foreign-secret", basic({ "auth-secret": "other/users" })),
      site("no-key", basic({ "auth-secret": "no-key" })),
      site("bad-realm", basic({ "auth-realm": 'a"b' })),
      site("empty-type", { "auth-type": "", "auth-secret": "users" }),
      site(
        "forwards",
        basic({ "auth-url": "http://auth.default.svc/200", "auth-response-headers": "X-Seen-Authorization" }),
      ),

      site("all-list", basic({ satisfy: "all", "allowlist-source-range": "192.0.2.0/24" })),
      site("any-list", basic({ satisfy: "any", "allowlist-source-range": "192.0.2.0/24" })),
      site("any-deny", basic({ satisfy: "any", "denylist-source-range": "192.0.2.0/24" })),
      site("any-wrong", basic({ satisfy: "either", "allowlist-source-range": "192.0.2.0/24" })),
      site("any-only-list", { satisfy: "any", "allowlist-source-range": "192.0.2.0/24" }),
      site("any-only-deny", { satisfy: "any", "denylist-source-range": "192.0.2.0/24" }),
      ...["200", "401", "403", "500"].flatMap((status) => [
        site(
          `any-${status}`,
          basic({ satisfy: "any", "auth-realm": "r", "auth-url": `http://auth.default.svc/${status}` }),
        ),
        site(`all-${status}`, basic({ "auth-url": `http://auth.default.svc/${status}` })),
      ]),
      site("any-list-403", {
        satisfy: "any",
        "allowlist-source-range": "192.0.2.0/24",
        "auth-url": "http://auth.default.svc/403",
      }),
      site(
        "any-signin",
        basic({
          satisfy: "any",
          "auth-url": "http://auth.default.svc/401",
          "auth-signin": "https://sign.example/in",
        }),
      ),
      // Two Ingresses of one host: one is guarded, the other's guard cannot be read, and the third is free.
      ingress("web", {
        host: "shared.example.com",
        name: "shared-guarded",
        annotations: basic(),
        paths: { "/staff": "Prefix" },
      }),
      ingress("web", {
        host: "shared.example.com",
        name: "shared-broken",
        annotations: basic({ "auth-secret": "nobody" }),
        paths: { "/broken": "Prefix" },
      }),
      ingress("web", { host: "shared.example.com", name: "shared-free", paths: { "/free": "Prefix" } }),
    ].join(""),
  });
});

afterAll(async () => edge.stop());

interface Visitor {
  readonly from?: string;
  readonly as?: string;
  readonly path?: string;
}

const come = (name: string, { from, as, path = "/" }: Visitor = {}) =>
  edge.request({
    host: `${name}.example.com`,
    path,
    ...(from === undefined ? {} : { clientAddress: from }),
    headers: as === undefined ? {} : { Authorization: `Basic ${Buffer.from(as).toString("base64")}` },
  });
const status = async (name: string, visitor: Visitor = {}) => (await come(name, visitor)).status;

describe("allowlist-source-range, denylist-source-range", () => {
  test.each([
    ["allow", "192.0.2.1", 200],
    ["allow", "198.51.100.7", 200],
    ["allow", "198.51.100.8", 403],
    ["allow", "2001:db8:ffff::1", 200],
    ["allow", "2001:db9::1", 403],
    ["allow", "::ffff:192.0.2.1", 200],
    ["white", "192.0.2.1", 200],
    ["white", "192.0.3.1", 403],
    ["both-names", "192.0.3.1", 403],
    ["old-name", "192.0.3.1", 403],
    ["old-name", "192.0.2.3", 200],
    ["deny", "192.0.2.1", 403],
    ["deny", "2001:db8::1", 403],
    ["deny", "2001:db8::2", 200],
    ["deny", "203.0.113.1", 200],
    ["deny-allow", "192.0.2.1", 200],
    ["deny-allow", "192.0.2.129", 403],
    ["deny-allow", "203.0.113.1", 403],
    ["list-empty", "203.0.113.1", 200],
    ["allow-wrong", "192.0.2.1", 503],
    ["allow-half", "192.0.2.1", 503],
    ["deny-wrong", "192.0.2.1", 503],
  ] as const)("%s, from %s → %d", async (name, from, want) => {
    const reply = await come(name, { from });
    expect(reply.status).toBe(want);
    if (want === 403) expect(reply.text).toContain("<h1>403 Forbidden</h1>");
    if (want === 503) expect(reply.text).toContain("<h1>503 Service Temporarily Unavailable</h1>");
  });

  test("X-Forwarded-For of the client counts for nothing", async () => {
    const reply = await edge.request({
      host: "allow.example.com",
      clientAddress: "203.0.113.1",
      headers: { "X-Forwarded-For": "192.0.2.1", "X-Real-IP": "192.0.2.1" },
    });
    expect(reply.status).toBe(403);
  });
});

describe("basic auth", () => {
  test("asks with its realm", async () => {
    const reply = await come("basic");
    expect(reply.status).toBe(401);
    expect(reply.headers["www-authenticate"]).toBe('Basic realm="Staff only"');
    expect((await come("no-realm")).headers["www-authenticate"]).toBe('Basic realm=""');
  });

  test.each(Object.keys(HASHES))("%s: right and wrong password, and again from memory", async (user) => {
    for (let round = 0; round < 2; round++) {
      expect(await status("basic", { as: `${user}:secret` })).toBe(200);
      expect(await status("basic", { as: `${user}:Secret` })).toBe(401);
      expect(await status("basic", { as: `${user}:` })).toBe(401);
      expect(await status("basic", { as: `${user}:secret ` })).toBe(401);
    }
  });

  test.each(Object.keys(NO_HASHES))("%s lets nobody in", async (user) => {
    for (const password of ["secret", "", NO_HASHES[user as keyof typeof NO_HASHES]])
      expect(await status("basic", { as: `${user}:${password}` })).toBe(401);
  });

  test.each([
    ["twice:first", 200],
    ["twice:second", 401],
    ["third:secret", 200],
    ["crlf:secret", 200],
    ["sécret:sécret", 200],
    ["noline:", 401],
    ["# a comment:secret", 401],
    ["nobody:secret", 401],
    [":secret", 401],
    ["no colon", 401],
    ["plain:secret:x", 401],
  ] as const)("%s → %d", async (as, want) => {
    expect(await status("basic", { as })).toBe(want);
  });

  test.each([
    ["Bearer abc", 401],
    ["Basic", 401],
    ["Basic ", 401],
    ["Basic ***", 401],
    [`BASIC ${Buffer.from("plain:secret").toString("base64")}`, 200],
  ] as const)("Authorization: %s → %d", async (authorization, want) => {
    const reply = await edge.request({
      host: "basic.example.com",
      headers: { Authorization: authorization },
    });
    expect(reply.status).toBe(want);
  });

  test("the pod does not get Authorization, an auth service does", async () => {
    expect((await come("basic", { as: "plain:secret" })).echo.headers.authorization).toBeUndefined();
    const { echo } = await come("forwards", { as: "plain:secret" });
    expect(echo.headers["x-seen-authorization"]).toBe(
      `Basic ${Buffer.from("plain:secret").toString("base64")}`,
    );
  });

  test.each([
    ["alice:secret", 200],
    ["bob:secret", 200],
    ["carol:secret", 401],
    ["alice:wrong", 401],
  ] as const)("auth-map: %s → %d", async (as, want) => {
    expect(await status("map", { as })).toBe(want);
  });

  test.each([
    "wrong-type",
    "digest",
    "nonsense",
    "no-secret",
    "missing-secret",
    "foreign-secret",
    "no-key",
    "bad-realm",
  ])("%s denies the location with 503, with and without a password", async (name) => {
    expect(await status(name)).toBe(503);
    expect(await status(name, { as: "plain:secret" })).toBe(503);
  });

  test("an empty auth-type is none", async () => {
    expect(await status("empty-type")).toBe(200);
  });

  test("a guard that cannot be read costs its own Ingress alone", async () => {
    expect(await status("shared", { path: "/staff" })).toBe(401);
    expect(await status("shared", { path: "/staff", as: "plain:secret" })).toBe(200);
    expect(await status("shared", { path: "/broken", as: "plain:secret" })).toBe(503);
    expect(await status("shared", { path: "/free" })).toBe(200);
  });

  test("a Secret that changes counts at once, whatever was remembered", async () => {
    const write = (hash: string) =>
      edge.apply({
        "changing.yaml":
          site("changing", basic({ "auth-secret": "changing" })) + secret("changing", { auth: `u:${hash}` }),
      });
    await write("{PLAIN}one");
    expect(await status("changing", { as: "u:one" })).toBe(200);
    await write("{PLAIN}two");
    expect(await status("changing", { as: "u:one" })).toBe(401);
    expect(await status("changing", { as: "u:two" })).toBe(200);
    await edge.apply({ "changing.yaml": site("changing", basic({ "auth-secret": "changing" })) });
    expect(await status("changing", { as: "u:two" })).toBe(503);
  });
});

describe("satisfy", () => {
  const INSIDE = "192.0.2.1";
  const OUTSIDE = "203.0.113.1";
  const RIGHT = "plain:secret";
  const WRONG = "plain:wrong";
  test.each([
    ["all-list", INSIDE, RIGHT, 200],
    ["all-list", INSIDE, undefined, 401],
    ["all-list", OUTSIDE, RIGHT, 403],
    ["any-list", INSIDE, undefined, 200],
    ["any-list", INSIDE, WRONG, 200],
    ["any-list", OUTSIDE, RIGHT, 200],
    ["any-list", OUTSIDE, WRONG, 401],
    ["any-list", OUTSIDE, undefined, 401],
    ["any-deny", OUTSIDE, undefined, 401],
    ["any-deny", OUTSIDE, RIGHT, 200],
    ["any-deny", INSIDE, RIGHT, 200],
    ["any-deny", INSIDE, undefined, 401],
    ["any-wrong", INSIDE, undefined, 401],
    ["any-wrong", INSIDE, RIGHT, 200],
    ["any-only-list", INSIDE, undefined, 200],
    ["any-only-list", OUTSIDE, undefined, 403],
    ["any-only-deny", INSIDE, undefined, 403],
    ["any-only-deny", OUTSIDE, undefined, 200],
    ["any-200", OUTSIDE, undefined, 200],
    ["any-401", OUTSIDE, RIGHT, 200],
    ["any-401", OUTSIDE, undefined, 401],
    ["any-403", OUTSIDE, undefined, 401],
    ["any-500", OUTSIDE, undefined, 500],
    ["any-500", OUTSIDE, RIGHT, 200],
    ["any-list-403", OUTSIDE, undefined, 403],
    ["any-list-403", INSIDE, undefined, 200],
    ["all-200", OUTSIDE, RIGHT, 200],
    ["all-200", OUTSIDE, undefined, 401],
    ["all-401", OUTSIDE, RIGHT, 401],
    ["all-403", OUTSIDE, RIGHT, 403],
    ["all-500", OUTSIDE, RIGHT, 500],
    ["any-signin", OUTSIDE, RIGHT, 200],
    ["any-signin", OUTSIDE, undefined, 302],
  ] as const)("%s, from %s, as %s → %d", async (name, from, as, want) => {
    expect(await status(name, { from, ...(as === undefined ? {} : { as }) })).toBe(want);
  });

  test("under any, each check that asks has its challenge", async () => {
    const challenges = (rawHeaders: readonly string[]) =>
      rawHeaders.filter((_, at) => rawHeaders[at - 1]?.toLowerCase() === "www-authenticate" && at % 2 === 1);
    const reply = await come("any-401");
    expect(challenges(reply.rawHeaders).join(", ")).toBe('Basic realm="r", Bearer');
  });

  test("under all, the first failure answers: the auth service is not asked", async () => {
    const before = edge.backend("auth").requests;
    await come("all-200");
    expect(edge.backend("auth").requests).toBe(before);
  });
});
