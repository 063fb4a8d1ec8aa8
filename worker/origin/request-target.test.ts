import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { isChangedByFetch, urlTarget } from "./request-target.ts";

const character = fc.constantFrom(..."abcAB019-._~!$&'()*+,;=:@/?%\\\"<>^`{|}.2eE/".split(""));
const target = fc.string({ unit: character, maxLength: 20 }).map((text) => `/${text}`);

/** What the pod gets by the URL alone. */
function byUrl(text: string): string | undefined {
  return URL.parse(`http://a${urlTarget(text)}`)?.href.slice("http://a".length);
}

describe("a request target", () => {
  test("goes without a header exactly where the URL says it", () => {
    fc.assert(
      fc.property(target, (text) => {
        expect(isChangedByFetch(text)).toBe(byUrl(text) !== text);
      }),
      { numRuns: 5000 },
    );
  });

  test("beyond ASCII is left to the URL", () => {
    expect(isChangedByFetch("/ü/../x")).toBe(false);
  });

  test("keeps its backslashes from being slashes, in the path alone", () => {
    expect(urlTarget("/a\\b?c\\d")).toBe("/a%5Cb?c\\d");
  });
});
