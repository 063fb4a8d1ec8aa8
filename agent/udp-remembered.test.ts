import { expect, test } from "vitest";
import { rememberedDestinations } from "./udp-remembered.ts";

test("addresses and node ports of UDP, from nftables as `nft -s -nn` prints it", () => {
  const listing = `table ip fairlead {
	map udp-endpoints {
		typeof meta priority . numgen random mod 2 : ip daddr . udp dport
		elements = { 8000:6000 . 17 : 10.0.0.17 . 5353 }
	}
	map service-ips {
		elements = { 172.30.0.41 . 17 . 53 comment "default/web/udp/dns" : 8000:6000,
			     fd00::41 . 17 . 54 comment "a 17 . 99 b" : 8000:6000,
			     172.30.0.43 . 17 . 55 counter comment "of a table of before" : 8000:8000,
			     172.30.0.42 . 6 . 80 : 8000:2000 }
	}
	map service-nodeports {
		elements = { 17 . 30053 comment "default/web/udp/dns" : 8000:4012, 6 . 30080 : 8000:4012 }
	}
}`;
  expect(rememberedDestinations(Buffer.from(listing))).toEqual([
    "172.30.0.41:53",
    "[fd00::41]:54",
    "172.30.0.43:55",
    30053,
  ]);
});

test("and from iptables", () => {
  const listing = `*nat
-A KUBE-SERVICES -d 10.96.0.10/32 -p udp -m comment --comment "a/b:dns cluster IP" -m udp --dport 53 -j KUBE-SVC-TCOU7JCQXEZGVUNU
-A KUBE-SERVICES -d 10.96.0.10/32 -p tcp -m tcp --dport 53 -j KUBE-SVC-ERIFXISQEP7F7OF4
-A KUBE-NODEPORTS -p udp -m udp --dport 30053 -j KUBE-EXT-TCOU7JCQXEZGVUNU
COMMIT`;
  expect(rememberedDestinations(listing)).toEqual(["10.96.0.10:53", 30053]);
});
