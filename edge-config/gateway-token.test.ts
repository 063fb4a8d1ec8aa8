import { createHmac } from "node:crypto";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  createTokenSigner,
  createTokenVerifier,
  type GatewayTarget,
  parseEndpoint,
  parseTokenKeys,
} from "./gateway-token.ts";

const OLD = `old:${"A".repeat(43)}=`;
const NEW = `new:${"B".repeat(43)}=`;
const NOW = Date.parse("2026-11-23T10:00:00Z");

const target: GatewayTarget = { address: "10.0.0.1", port: 8080, scheme: "http", host: "shop.example" };

const word = fc.stringMatching(/^[!-{}~]{1,20}$/);
const anyTarget: fc.Arbitrary<GatewayTarget> = fc.record(
  {
    address: word,
    port: fc.integer({ min: 1, max: 65_535 }),
    scheme: fc.constantFrom("http", "https", "h2c", "h2"),
    host: word,
    sni: word,
    verify: fc.constant(true),
    tlsSecret: word,
    connectTimeoutMs: fc.integer({ min: 1, max: 3_600_000 }),
  },
  { requiredKeys: ["address", "port", "scheme", "host"] },
);

describe("a token", () => {
  test("carries any target there and back", async () => {
    const signer = createTokenSigner(parseTokenKeys(NEW));
    const verifier = createTokenVerifier(parseTokenKeys(NEW));
    await fc.assert(
      fc.asyncProperty(anyTarget, async (one) => {
        const verdict = await verifier.verify(await signer.sign(one, NOW), NOW);
        expect(verdict).toEqual({ kind: "valid", target: one, expiresAtMs: NOW + 120_000 });
      }),
    );
  });

  test("is made once for a target and used until half of its life is over", async () => {
    const signer = createTokenSigner(parseTokenKeys(NEW));
    const first = await signer.sign(target, NOW);
    expect(signer.sign(target, NOW + 60_000)).toBe(first); // At once: no promise.
    expect(await signer.sign(target, NOW + 61_000)).not.toBe(first);
    expect(await signer.sign({ ...target, host: "other.example" }, NOW)).not.toBe(first);
  });

  test("by either key is good during a rotation, by another one it is not", async () => {
    const token = await createTokenSigner(parseTokenKeys(`${NEW},${OLD}`)).sign(target, NOW);
    expect((await createTokenVerifier(parseTokenKeys(`${OLD}, ${NEW}`)).verify(token, NOW)).kind).toBe(
      "valid",
    );
    expect(await createTokenVerifier(parseTokenKeys(OLD)).verify(token, NOW)).toMatchObject({
      error: "token",
    });
    const impostor = `new:${"C".repeat(43)}=`;
    const forged = await createTokenSigner(parseTokenKeys(impostor)).sign(target, NOW);
    expect(await createTokenVerifier(parseTokenKeys(NEW)).verify(forged, NOW)).toMatchObject({
      error: "token",
    });
  });

  test("expires, also when it was accepted before", async () => {
    const token = await createTokenSigner(parseTokenKeys(NEW)).sign(target, NOW);
    const verifier = createTokenVerifier(parseTokenKeys(NEW));
    expect((await verifier.verify(token, NOW + 119_999)).kind).toBe("valid");
    expect(await verifier.verify(token, NOW + 120_000)).toMatchObject({ kind: "refused", error: "expired" });
  });

  test("of which any character was changed is refused", async () => {
    const token = await createTokenSigner(parseTokenKeys(NEW)).sign(target, NOW);
    const verifier = createTokenVerifier(parseTokenKeys(NEW));
    await fc.assert(
      fc.asyncProperty(
        fc.nat(token.length - 1),
        fc.constantFrom("A", "z", "9", "-", ".", "=", "|", ""),
        async (at, other) => {
          const changed = token.slice(0, at) + other + token.slice(at + 1);
          const verdict = await verifier.verify(changed, NOW);
          if (changed !== token) expect(verdict.kind).toBe("refused");
        },
      ),
    );
  });

  test.each([
    ["nothing", ""],
    ["a JWT", "eyJhbGciOiJub25lIn0.eyJhZGRyZXNzIjoiMTAuMC4wLjEifQ."],
    ["without a signature", "|new|9999999999|http|||10.0.0.1|80|shop.example||"],
    ["without a key id", "AAAA||9999999999|http|||10.0.0.1|80|shop.example||"],
    ["with a key id of every object", "AAAA|constructor|9999999999|http|||10.0.0.1|80|shop.example||"],
  ])("that is %s is refused", async (_, token) => {
    const verdict = await createTokenVerifier(parseTokenKeys(NEW)).verify(token, NOW);
    expect(verdict).toMatchObject({ kind: "refused", error: "token" });
  });

  test.each([
    ["a line break in the host", { ...target, host: "a\r\nb" }],
    ["a bar in the host", { ...target, host: "a|b" }],
    ["a bar in the server name", { ...target, sni: "a|" }],
    ["a port of 0", { ...target, port: 0 }],
    ["an unknown scheme", { ...target, scheme: "gopher" as "http" }],
    ["an empty address", { ...target, address: "" }],
  ])("is not signed for %s", async (_, bad) => {
    const signing = createTokenSigner(parseTokenKeys(NEW)).sign(bad, NOW);
    await expect(signing).rejects.toThrow("no token can name the target");
  });

  test.each([
    ["a field too many", "http|||10.0.0.1|80|shop.example|||"],
    ["a field too few", "http|||10.0.0.1|80|shop.example|"],
    ["a port with a sign", "http|||10.0.0.1|+80|shop.example||"],
    ["another word than on", "http|off||10.0.0.1|80|shop.example||"],
    ["an unknown scheme", "gopher|||10.0.0.1|80|shop.example||"],
    ["an empty address", "http||||80|shop.example||"],
    ["a space in the host", "http|||10.0.0.1|80|shop example||"],
  ])("with %s is refused although it is signed", async (_, fields) => {
    const signed = `new|9999999999|${fields}`;
    const signature = createHmac("sha256", Buffer.from(`${"B".repeat(43)}=`, "base64")).update(signed);
    const token = `${signature.digest("base64url")}|${signed}`;
    expect(await createTokenVerifier(parseTokenKeys(NEW)).verify(token, NOW)).toMatchObject({
      kind: "refused",
      error: "token",
      reason: "it is malformed",
    });
  });
});

test.each([
  ["no id", "A".repeat(44), "id:base64"],
  ["a short key", "k:AAAA", "at least 32 bytes"],
  ["no base64", `k:${"!".repeat(44)}`, "at least 32 bytes"],
  ["one id twice", `${OLD},${OLD}`, "twice"],
])("keys with %s are refused with a sentence", (_, text, sentence) => {
  expect(() => parseTokenKeys(text)).toThrow(sentence);
});

test.each([
  ["10.0.0.1:80", { address: "10.0.0.1", port: 80 }],
  ["[fd00::1]:443", { address: "fd00::1", port: 443 }],
  ["db.example.com:5432", { address: "db.example.com", port: 5432 }],
  ["10.0.0.1", undefined],
  ["10.0.0.1:0", undefined],
  ["10.0.0.1:70000", undefined],
  ["fd00::1:80", undefined],
  ["", undefined],
])("the endpoint %j is read as %j", (text, expected) => {
  expect(parseEndpoint(text)).toEqual(expected);
});
