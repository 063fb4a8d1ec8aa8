import { beforeEach, expect, test, vi } from "vitest";

/** The real comparison, watched. */
const { compared } = vi.hoisted(() => ({ compared: [] as { left: Buffer; right: Buffer }[] }));
vi.mock("node:crypto", async (original) => {
  const crypto = await original<typeof import("node:crypto")>();
  return {
    ...crypto,
    timingSafeEqual: (left: Buffer, right: Buffer): boolean => {
      compared.push({ left, right });
      return crypto.timingSafeEqual(left, right);
    },
  };
});

import { identify, readClusterTokens } from "./access.ts";

const tokens = {
  operator: "operator-0123456789",
  clusters: new Map([
    ["eu", "eu-token-0123456789"],
    ["us", "us-token-0123456789"],
  ]),
};

beforeEach(() => void compared.splice(0));

test.each([
  ["the operator's", "operator-0123456789", { kind: "operator" }],
  ["the first cluster's", "eu-token-0123456789", { kind: "cluster", cluster: "eu" }],
  ["the last cluster's", "us-token-0123456789", { kind: "cluster", cluster: "us" }],
  ["one that begins right", "eu-token-", undefined],
  ["one that differs at the end", "eu-token-0123456780", undefined],
  ["a long one", "x".repeat(5_000), undefined],
])("%s token is compared with every other one, in constant time over equal lengths", (_, token, caller) => {
  expect(identify(`Bearer ${token}`, tokens)).toEqual(caller);
  expect(compared).toHaveLength(3);
  for (const { left, right } of compared) expect([left.length, right.length]).toEqual([32, 32]);
});

test.each([undefined, "", "Bearer", "Basic b3BlcmF0b3I=", "operator-0123456789"])(
  "%j is nobody",
  (header) => {
    expect(identify(header, tokens)).toBeUndefined();
  },
);

test.each([
  ["no cluster", "token-0123456789abc", "must be `cluster=token`"],
  ["a short token", "eu=short", "has 5 characters"],
  ["a name that is no label", "Eu_1=token-0123456789", "a cluster's name is a DNS label"],
])("%s among the push tokens is one sentence", (_, text, sentence) => {
  expect(() => readClusterTokens(text)).toThrow(sentence);
});
