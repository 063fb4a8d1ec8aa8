import { expect, test } from "vitest";
import { readRequestTarget } from "./request-target.ts";

test.each([
  [
    "http://shop.example.com/a/../b?x=/../y",
    "http",
    "shop.example.com",
    "shop.example.com",
    "/a/../b",
    "?x=/../y",
  ],
  ["https://Shop.Example.com:8443/", "https", "Shop.Example.com:8443", "shop.example.com", "/", ""],
  ["http://shop.example.com./a", "http", "shop.example.com.", "shop.example.com", "/a", ""],
  ["http://shop.example.com", "http", "shop.example.com", "shop.example.com", "/", ""],
  ["http://shop.example.com?q=/", "http", "shop.example.com", "shop.example.com", "/", "?q=/"],
  ["http://shop.example.com/?", "http", "shop.example.com", "shop.example.com", "/", "?"],
  ["http://shop.example.com*", "http", "shop.example.com", "shop.example.com", "/", ""],
  ["http://[2001:DB8::1]:80/x", "http", "[2001:DB8::1]:80", "[2001:db8::1]", "/x", ""],
  ["http://under_score.example/", "http", "under_score.example", "under_score.example", "/", ""],
])("%s", (url, scheme, authority, host, rawPath, query) => {
  expect(readRequestTarget(url)).toEqual({ scheme, authority, host, rawPath, query });
});

test.each([
  "http:///x",
  "http://a..b/",
  "http://.a/",
  "http://a b/",
  "http://a:b/",
  "http://a:80:80/",
  "http://u@h/",
  "http://a\\b/",
])("%s has a malformed host", (url) => {
  expect(readRequestTarget(url)).toBeUndefined();
});

test("a long hostile host costs no more than its length", () => {
  expect(readRequestTarget(`http://${"a.".repeat(50_000)}.!/`)).toBeUndefined();
});
