import { expect, test } from "vitest";
import { countActive } from "./leftovers.ts";

test("open connections through IPVS are counted, those that end are not", () => {
  expect(
    countActive(`IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn
TCP  172.30.0.41:80 rr
  -> 10.180.0.1:8080              Masq    1      2          7         
  -> 10.180.0.2:8080              Masq    0      1          0         
TCP  [fd00::41]:80 rr persistent 10800
  -> [fd00:1::1]:8080             Masq    1      4          0         
UDP  172.30.0.41:53 rr
  -> 10.180.0.1:5353              Masq    1      0          9         
`),
  ).toBe(7);
  expect(countActive("")).toBe(0);
});
