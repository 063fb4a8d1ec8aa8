import { expect, test } from "vitest";
import type { Counters } from "./service-counters.ts";
import { renderPage } from "./watch.ts";

function counters(web: number, api: number, refused: number): Counters {
  const one = {
    family: "IPv4",
    namespace: "shop",
    protocol: "tcp",
    port: "http",
    through: "address",
  } as const;
  return {
    services: [
      { ...one, service: "web", connections: web },
      { ...one, service: "web", through: "node port", connections: 1 },
      { ...one, service: "api", connections: api },
    ],
    refusals: [{ family: "IPv4", reason: "no-endpoints", connections: refused }],
    masqueraded: new Map([["IPv4", 7]]),
    invalid: new Map(),
    rules: [],
  };
}

test("busiest first, rates by the time between readings", () => {
  const page = renderPage(counters(10, 100, 0), counters(30, 101, 4), 2, { rows: 24, columns: 100 });
  expect(page).toBe(
    `3 Service ports with connections · 11 new/s · 2.0 refused/s · masqueraded IPv4 7

    NEW/S        TOTAL  SERVICE PORT
       10           31  shop/web http tcp IPv4
      0.5          101  shop/api http tcp IPv4

    NEW/S        TOTAL  REFUSED, BY REASON
      2.0            4  no-endpoints IPv4
`.replace("10.5 new/s", "11 new/s"),
  );
});

test("the first page knows no rates; counters that went back were made anew; no more rows than fit", () => {
  expect(renderPage(undefined, counters(5, 5, 0), 0, { rows: 24, columns: 100 })).toContain(
    "      0.0            6  shop/web http tcp IPv4\n",
  );
  expect(renderPage(counters(50, 5, 0), counters(3, 5, 0), 2, { rows: 24, columns: 100 })).toContain(
    "      2.0            4  shop/web http tcp IPv4\n",
  );
  const many: Counters = {
    ...counters(1, 1, 0),
    services: Array.from({ length: 50 }, (_, index) => ({
      family: "IPv4",
      namespace: "shop",
      service: `web-${index}`,
      protocol: "tcp",
      port: "",
      through: "address",
      connections: index,
    })),
  };
  const page = renderPage(undefined, many, 0, { rows: 12, columns: 40 }).trimEnd().split("\n");
  expect(page.length).toBeLessThanOrEqual(12);
  expect(page.at(-1)).toContain("more");
  expect(page.every((line) => line.length <= 40)).toBe(true);
});
