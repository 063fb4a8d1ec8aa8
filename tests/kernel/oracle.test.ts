/**
 * Does the harness tell right from wrong? Rules written here by hand are the node's, so every answer is known beforehand:
 * right rules must be found right, and each kind of wrong rule must be found wrong, in the words of the tables.
 */
import { afterAll, beforeAll, expect, it } from "vitest";
import { CLUSTER_CIDRS, FAMILIES, type Family, HOSTS } from "./addresses.ts";
import { clusterIpOf, serviceNamed } from "./destinations.ts";
import { canBridge, Lab } from "./lab.ts";
import { findingOf, replay, serveUntouched } from "./replay.ts";
import { describeKernel } from "./requirements.ts";
import { readTable } from "./table.ts";

const WEB = clusterIpOf(serviceNamed("web"));
const EMPTY = clusterIpOf(serviceNamed("empty"));
const INT_LOCAL = clusterIpOf(serviceNamed("int-local-remote"));

const VECTORS = readTable(
  `
                                | pod   | node     | client   | a1
    web cluster http            | a1 b1 | a1 b1 +masq | a1 b1 +masq | a1 b1
    web cluster dns             | a1 b1 | a1 b1 +masq | a1 b1 +masq | a1 b1
    web cluster assoc           | a1 b1 | a1 b1 +masq | a1 b1 +masq | a1 b1
    empty cluster http          | reject | reject  | reject   |
    empty cluster dns           | reject | reject  | reject   |
    empty cluster assoc         | reject | reject  | reject   |
    int-local-remote cluster http | drop | drop    | drop     |
    int-local-remote cluster dns | drop | drop     | drop     |
    int-local-remote cluster assoc | drop | drop   | drop     |
    single cluster http         | untouched | untouched | untouched |
    single cluster udp/53       | untouched | untouched | untouched |
    single cluster sctp/132     | untouched | untouched | untouched |
    single cluster icmp         | untouched | untouched | untouched |
    np node http                | untouched | untouched | untouched |
  `,
  {},
);

/** Balances three ports of `web` over a1 and b1, refuses `empty`, drops `int-local-remote`, masquerades outsiders and hairpins. */
function nftRules(family: Family, { endpoint = "a1" }: { readonly endpoint?: "a1" | "a2" } = {}): string {
  const ip = family === "ipv4" ? "ip" : "ip6";
  const [first, second] = [HOSTS[endpoint][family], HOSTS.b1[family]];
  const dnat = (protocol: string, port: number, target: number) =>
    `${ip} daddr ${WEB[family]} ${protocol} dport ${port} dnat to numgen random mod 2 map { 0: ${first}, 1: ${second} } : ${target}`;
  const rules = [dnat("tcp", 80, 8080), dnat("udp", 53, 5353), dnat("sctp", 132, 9000)].join("\n");
  const verdicts = `${ip} daddr ${EMPTY[family]} reject\n${ip} daddr ${INT_LOCAL[family]} drop`;
  return `
    table ${ip} oracle {
      chain before { type nat hook prerouting priority -100; ${rules}
      }
      chain out { type nat hook output priority -100; ${rules}
      }
      chain passing { type filter hook forward priority 0; ${verdicts}
      }
      chain leaving { type filter hook output priority 0; ${verdicts}
      }
      chain after { type nat hook postrouting priority 100;
        ct status dnat ${ip} saddr != ${CLUSTER_CIDRS[family]} masquerade fully-random
        ct status dnat ${ip} saddr ${first} ${ip} daddr ${first} masquerade fully-random
        ct status dnat ${ip} saddr ${second} ${ip} daddr ${second} masquerade fully-random
      }
    }
    `;
}

function iptablesRules(family: Family): string {
  const [a1, b1] = [HOSTS.a1[family], HOSTS.b1[family]];
  const bracketed = (address: string) => (family === "ipv6" ? `[${address}]` : address);
  const dnat = (chain: string, protocol: string, port: number, target: number) => [
    `-A ${chain} -d ${WEB[family]} -p ${protocol} --dport ${port} -m statistic --mode random --probability 0.5 -j DNAT --to-destination ${bracketed(a1)}:${target}`,
    `-A ${chain} -d ${WEB[family]} -p ${protocol} --dport ${port} -j DNAT --to-destination ${bracketed(b1)}:${target}`,
  ];
  return [
    "*nat",
    ...["PREROUTING", "OUTPUT"].flatMap((chain) => [
      ...dnat(chain, "tcp", 80, 8080),
      ...dnat(chain, "udp", 53, 5353),
      ...dnat(chain, "sctp", 132, 9000),
    ]),
    `-A POSTROUTING -m conntrack --ctstate DNAT ! -s ${CLUSTER_CIDRS[family]} -j MASQUERADE --random-fully`,
    `-A POSTROUTING -m conntrack --ctstate DNAT -s ${a1} -d ${a1} -j MASQUERADE --random-fully`,
    "COMMIT",
    "*filter",
    ...["FORWARD", "OUTPUT"].flatMap((chain) => [
      `-A ${chain} -d ${EMPTY[family]} -j REJECT`,
      `-A ${chain} -d ${INT_LOCAL[family]} -j DROP`,
    ]),
    "COMMIT",
    "",
  ].join("\n");
}

for (const podNetwork of canBridge() ? (["bridged", "routed"] as const) : (["routed"] as const)) {
  describeKernel(`the harness, pods ${podNetwork}`, () => {
    let lab: Lab;
    beforeAll(async () => {
      lab = await Lab.build({ label: `oracle-${podNetwork}`, podNetwork });
      await serveUntouched(lab, VECTORS);
    });
    afterAll(() => lab?.remove());

    const load = (rules: string) => lab.namespaces.must("node-a", "nft", ["-f", "-"], { input: rules });
    const clear = () => lab.namespaces.must("node-a", "nft", ["flush", "ruleset"]);

    /** Every vector by name with what was found. */
    const found = async () => {
      const findings = await replay(lab, VECTORS, "nftables");
      return VECTORS.map(({ name }, index) => [name, findings[index]]);
    };
    const wanted = VECTORS.map(({ name, want }) => [name, want.nftables]);

    it("finds nftables rules written by hand to do what they say", async () => {
      for (const family of FAMILIES) await load(nftRules(family));
      expect(await found()).toEqual(wanted);
      await clear();
    });

    it.each(["legacy", "nft"])(
      "finds iptables rules (%s) written by hand to do what they say",
      async (variant) => {
        for (const family of FAMILIES) {
          const program = `${family === "ipv4" ? "iptables" : "ip6tables"}-${variant}-restore`;
          await lab.namespaces.must("node-a", program, [], { input: iptablesRules(family) });
        }
        expect(await found()).toEqual(wanted);
        for (const family of FAMILIES) {
          const program = `${family === "ipv4" ? "iptables" : "ip6tables"}-${variant}-restore`;
          const empty = "*nat\nCOMMIT\n*filter\nCOMMIT\n";
          await lab.namespaces.must("node-a", program, [], { input: empty });
        }
      },
    );

    it("finds everything untouched where there are no rules", async () => {
      const findings = await replay(lab, VECTORS, "nftables");
      expect(findings.every((finding) => finding.join() === "untouched")).toBe(true);
    });
  });
}

describeKernel("the harness, wrong rules", () => {
  let lab: Lab;
  beforeAll(async () => {
    lab = await Lab.build({ label: "oracle-wrong" });
    await serveUntouched(lab, VECTORS);
  });
  afterAll(() => lab?.remove());

  /** What is found for one vector under other rules. */
  const findingFor = async (name: string, rules: string) => {
    const vectors = VECTORS.filter((vector) => vector.name === name);
    await lab.namespaces.must("node-a", "nft", ["-f", "-"], { input: rules });
    const findings = await replay(lab, vectors, "nftables");
    await lab.namespaces.must("node-a", "nft", ["flush", "ruleset"]);
    expect(vectors.length, `no vector ${name}`).toBe(1);
    return findings[0];
  };

  it("sees a wrong endpoint", async () => {
    expect(await findingFor("ipv4 pod → web cluster http", nftRules("ipv4", { endpoint: "a2" }))).toEqual([
      "10.180.0.12:8080",
      "10.180.1.11:8080",
    ]);
  });

  it("sees a missing endpoint", async () => {
    const rules = nftRules("ipv4").replaceAll("numgen random mod 2", "numgen random mod 1");
    expect(await findingFor("ipv4 pod → web cluster dns", rules)).toEqual(["10.180.0.11:5353"]);
  });

  it("sees a masquerade that should not be, by the port alone if need be", async () => {
    const everybody = "ct status dnat masquerade fully-random";
    const rules = nftRules("ipv6")
      .replace("chain after {", "chain after {")
      .replace("priority 100;", `priority 100; ${everybody}`);
    expect(await findingFor("ipv6 pod → web cluster assoc", rules)).toEqual([
      "[fd00:10:180:1::11]:9000 masqueraded",
      "[fd00:10:180::11]:9000 masqueraded",
    ]);
  });

  it("sees a masquerade that is missing", async () => {
    const rules = nftRules("ipv4").replaceAll(/.*masquerade.*/g, "");
    expect(await findingFor("ipv4 node-a → web cluster http", rules)).toEqual([
      "10.180.0.11:8080",
      "10.180.1.11:8080",
    ]);
  });

  it("tells REJECT from DROP, and ICMP from TCP RST", async () => {
    const swapped = nftRules("ipv4").replaceAll(/\b(reject|drop)\b/g, (word) =>
      word === "drop" ? "reject" : "drop",
    );
    expect(await findingFor("ipv4 pod → empty cluster http", swapped)).toEqual(["drop"]);
    expect(await findingFor("ipv4 pod → int-local-remote cluster assoc", swapped)).toEqual(["reject"]);
    const reset = nftRules("ipv4").replaceAll(/\breject\b/g, "meta l4proto tcp reject with tcp reset");
    expect(await findingFor("ipv4 client → empty cluster http", reset)).toEqual(["TCP RST"]);
    const otherIcmp = nftRules("ipv6").replaceAll(/\breject\b/g, "reject with icmpv6 type admin-prohibited");
    expect(await findingFor("ipv6 client → empty cluster dns", otherIcmp)).toEqual([
      "ICMP type 1 code 1 from fd00:192:168::2",
    ]);
  });

  it("tells a closed port from a refused one", async () => {
    expect(
      findingOf(
        { address: HOSTS.a1.ipv4, port: 9, family: "ipv4" },
        await lab.probe("pod", "tcp", HOSTS.a1.ipv4, 9),
      ),
    ).toBe("TCP RST");
  });
});
