import { expect, test } from "vitest";
import { newConnectionsGoTo } from "./kernel.ts";

test("IPVS: destinations that only keep their open connections get no new ones", () => {
  expect(
    newConnectionsGoTo([
      "TCP  172.30.0.41:80 rr",
      "  -> 10.180.0.2:8080              Masq    1      2          7         ",
      "  -> 10.180.0.1:8080              Masq    2      0          0         ",
      "  -> 10.180.0.3:8080              Masq    0      1          0         ",
    ]),
  ).toEqual(["10.180.0.1:8080", "10.180.0.2:8080"]);
});
