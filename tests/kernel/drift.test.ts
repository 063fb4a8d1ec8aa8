/**
 * Somebody else's hand in our rules: the running agent notices within seconds and puts them right, without being told.
 */
import { setTimeout } from "node:timers/promises";
import { expect, it } from "vitest";
import { FAMILIES } from "./addresses.ts";
import { serviceNamed } from "./destinations.ts";
import { PATIENCE } from "./netns.ts";
import {
  describeNode,
  eventually,
  type NodeUnderTest,
  serviceWith,
  WITH_DETECTOR,
} from "./node-under-test.ts";
import { snapshot, withoutNumbers } from "./rules.ts";
import type { TestService } from "./services.ts";

const SERVICES = [
  serviceWith("web", ["a1", "b1"]),
  serviceWith("np", ["a1"]),
  serviceWith("empty", []),
  serviceWith("lb-local", ["a1"]),
];

async function startProgrammed(node: NodeUnderTest): Promise<readonly string[]> {
  await node.write(SERVICES);
  await node.agent.agent("--cleanup");
  node.start();
  await node.until("10.180.0.11:8080", "client", "np node http");
  await node.until("[fd00:10:180::11]:8080", "client", "np node http", "ipv6");
  return snapshot(node.lab);
}

/** Breaks the rules, sees that they are broken, and waits for them to be whole again. */
async function expectRepair(
  node: NodeUnderTest,
  whole: readonly string[],
  harm: () => Promise<unknown>,
  look: (lines: readonly string[]) => readonly string[] = (lines) => lines,
): Promise<void> {
  await harm();
  expect(look(await snapshot(node.lab)), "what was done has no effect").not.toEqual(whole);
  await eventually(
    async () => {
      const now = new Set(look(await snapshot(node.lab)));
      return {
        missing: whole.filter((line) => !now.has(line)),
        added: [...now].filter((line) => !whole.includes(line)),
      };
    },
    ({ missing, added }) => missing.length + added.length === 0,
    "the rules to be as they were",
    20,
  );
  expect(await node.ask("client", "np node http")).toBe("10.180.0.11:8080");
}

/** The same while another Service changes all the time; the rules as a whole are others at every moment then. */
async function expectRepairWhileChanging(node: NodeUnderTest, harm: () => Promise<unknown>): Promise<void> {
  let isOver = false;
  const changing = (async () => {
    for (let turn = 0; !isOver; turn++) {
      await node.write([serviceWith("web", turn % 2 === 0 ? ["a1"] : ["b1"]), ...SERVICES.slice(1)]);
      await setTimeout(50);
    }
  })();
  try {
    await node.until("10.180.1.11:8080", "pod", "web cluster http");
    await harm();
    expect(await node.ask("client", "np node http", "ipv4", 500)).not.toBe("10.180.0.11:8080");
    await eventually(
      () => node.ask("client", "np node http", "ipv4", 500),
      (answer) => answer === "10.180.0.11:8080",
      "the Service to be back",
      40,
    );
  } finally {
    isOver = true;
    await changing;
  }
}

interface NftObjects {
  readonly nftables: readonly {
    readonly table?: { readonly family: string; readonly name: string };
    readonly chain?: {
      readonly family: string;
      readonly table: string;
      readonly name: string;
      readonly hook?: string;
    };
    readonly rule?: {
      readonly family: string;
      readonly table: string;
      readonly chain: string;
      readonly handle: number;
    };
  }[];
}

describeNode("drift, nftables", ["nftables"], (node) => {
  const nft = (...args: readonly string[]) => node().lab.namespaces.must("node-a", "nft", args);
  const list = async (...what: readonly string[]) =>
    JSON.parse(await nft("-j", "list", ...what)) as NftObjects;

  it("a flushed rule set", async () => {
    const whole = await startProgrammed(node());
    await expectRepair(node(), whole, () => nft("flush", "ruleset"));
  });

  it("a deleted table", async () => {
    const whole = await startProgrammed(node());
    const { nftables } = await list("tables");
    const tables = nftables.flatMap(({ table }) => (table === undefined ? [] : [table]));
    expect(tables.map(({ family }) => family).sort()).toEqual(["ip", "ip6"]);
    for (const { family, name } of tables)
      await expectRepair(node(), whole, () => nft("delete", "table", family, name));
  });

  it("a flushed base chain, and one rule removed from each chain in turn", { timeout: 180_000 }, async () => {
    const whole = await startProgrammed(node());
    const { nftables } = await list("ruleset", "ip");
    const base = nftables.flatMap(({ chain }) => (chain?.hook === undefined ? [] : [chain]));
    const first = base[0];
    if (first === undefined) throw new Error("no base chain");
    await expectRepair(node(), whole, () => nft("flush", "chain", first.family, first.table, first.name));
    for (const { name } of base) {
      const { nftables: now } = await list("ruleset", "ip");
      const rule = now.find((object) => object.rule?.chain === name)?.rule;
      if (rule === undefined) continue;
      await expectRepair(node(), whole, () =>
        nft("delete", "rule", rule.family, rule.table, rule.chain, "handle", String(rule.handle)),
      );
    }
  });

  it("a flushed chain while the cluster changes all the time", async () => {
    await startProgrammed(node());
    await expectRepairWhileChanging(node(), () => nft("flush", "chain", "ip", "fairlead", "services"));
  });

  it("an element removed from a map", async () => {
    const whole = await startProgrammed(node());
    const text = await nft("list", "ruleset", "ip");
    const table = /table ip (\S+)/.exec(text)?.[1] ?? "";
    const [, map = "", key = ""] =
      /map (\S+) \{[^}]*elements = \{[^}]*?(172\.30\.0\.10 \. [\w. ]*\w)(?: counter packets \d+ bytes \d+)?(?: comment "[^"]*")? :/.exec(
        text,
      ) ?? [];
    expect({ map, key }).not.toEqual({ map: "", key: "" });
    const harm = () => nft("delete", "element", "ip", table, map, `{ ${key} }`);
    // Whose only address is gone is not known by its number any more, and gets another one.
    await expectRepair(node(), withoutNumbers(whole), harm, withoutNumbers);
  });
});

/**
 * Our table by somebody else's hand: all rules and elements stand, but the set of source ranges knows no ranges, so that it
 * takes none. Every packet fares as before, and every change of a range is refused for as long as this set is there.
 */
async function forgeTable(node: NodeUnderTest): Promise<void> {
  const { code, stdout, stderr } = await node.agent.nat("render", node.manifest, {}, ...WITH_DETECTOR);
  if (code !== 0) throw new Error(`fairlead nat render ended with ${code}: ${stderr}`);
  const forged = stdout.replace(/^(add set \S+ \S+ source-ranges .*) flags interval;(.*)$/gm, "$1$2");
  expect(forged, "there is no set to be forged").not.toBe(stdout);
  const tables = ["ip", "ip6"].map(
    (family) => `add table ${family} fairlead\ndelete table ${family} fairlead\n`,
  );
  await node.lab.namespaces.must("node-a", "nft", ["-f", "-"], { input: tables.join("") + forged });
}

describeNode("a table that takes no change", ["nftables"], (node) => {
  const ranges: TestService = {
    ...serviceNamed("ranges"),
    sourceRanges: ["203.0.113.0/25", "fd00:203:0:113::/121"],
  };

  /** Begins with a forged table, and sees it mended while connections go on and come. */
  async function expectMended(begin: () => Promise<unknown>): Promise<void> {
    const held = await Promise.all([
      node().hold("pod", "web cluster http"),
      node().hold("client", "np node http", "ipv6"),
      node().hold("client", "np node dns"),
    ]);
    const load = node().load("client", "np node http", { concurrency: 2, pauseMs: 2 });
    await begin();
    for (const family of FAMILIES) {
      const answer = family === "ipv4" ? "10.180.0.11:8080" : "[fd00:10:180::11]:8080";
      await node().until(answer, "client", "ranges vip http", family);
      expect(await node().ask("far", "ranges vip http", family, 500)).toBe("silent");
    }
    load.stop();
    const { refused, silent, errors } = await load.done;
    expect({ refused, silent, errors }).toEqual({ refused: 0, silent: 0, errors: 0 });
    for (const one of held) expect((await one.say(5_000 * PATIENCE)).kind).toBe("answered");
    expect(
      await node().agent.agent("--once", "--dry-run", "-f", node().manifest, ...WITH_DETECTOR),
    ).toMatchObject({
      code: 0,
      stdout: "",
    });
  }

  it("is replaced as a whole when the agent starts", async () => {
    await node().program(SERVICES);
    await forgeTable(node());
    await node().write([...SERVICES, { ...ranges, endpoints: ["a1"] }]);
    await expectMended(async () => node().start());
  });

  it("is replaced as a whole by --once", async () => {
    await node().program(SERVICES);
    await forgeTable(node());
    await expectMended(async () => {
      await node().program([...SERVICES, { ...ranges, endpoints: ["a1"] }]);
    });
  });

  it("is replaced as a whole while the agent runs", async () => {
    await node().write(SERVICES);
    node().start();
    await node().until("[fd00:10:180::11]:8080", "client", "np node http", "ipv6");
    // Under load it would be this hand that refuses connections.
    await forgeTable(node());
    await expectMended(() => node().write([...SERVICES, { ...ranges, endpoints: ["a1"] }]));
  });

  it("what an agent was killed beside goes when the next one starts", async () => {
    await node().program(SERVICES);
    const left = ["ip fairlead-stand-in", "ip6 fairlead-hostports-stand-in"];
    const nft = (text: string) => node().lab.namespaces.must("node-a", "nft", ["-f", "-"], { input: text });
    await nft(left.map((table) => `add table ${table}\nadd chain ${table} c\n`).join(""));
    await node().program(SERVICES);
    const tables = await node().lab.namespaces.must("node-a", "nft", ["list", "tables"]);
    expect(tables.trim().split("\n").sort()).toEqual(["table ip fairlead", "table ip6 fairlead"]);
  });

  it("also where somebody's own map in it holds on to a chain", async () => {
    await node().program(SERVICES);
    // nft refuses to delete the chain, which is none of ours, for as long as the map names it.
    await node().lab.namespaces.must("node-a", "nft", ["-f", "-"], {
      input: `table ip fairlead {
        chain theirs { counter; }
        map their-ports { type inet_service : verdict; elements = { 9 : goto theirs } }
      }`,
    });
    const agent = node().start();
    await eventually(
      async () => agent.output,
      (output) => output.includes("ready\n"),
      "the agent to be ready",
    );
    for (const [pod, answer] of [
      ["b1", "10.180.1.11:8080"],
      ["a1", "10.180.0.11:8080"],
    ] as const) {
      await node().write([serviceWith("np", [pod])]);
      await node().until(answer, "pod", "np cluster http");
    }
    await eventually(
      () => node().lab.namespaces.must("node-a", "nft", ["list", "table", "ip", "fairlead"]),
      (table) => !table.includes("theirs"),
      "our table to hold nothing of others",
    );
  });
});

describeNode("drift, iptables", ["iptables-nft", "iptables-legacy"], (node, { variant = "nft" }) => {
  const iptables = (...args: readonly string[]) =>
    node().lab.namespaces.must("node-a", `iptables-${variant}`, ["-w", ...args]);
  const rulesOf = async (table: string) =>
    (await iptables("-t", table, "-S")).split("\n").filter((line) => line.startsWith("-A"));

  it("flushed tables", async () => {
    const whole = await startProgrammed(node());
    await expectRepair(node(), whole, () => iptables("-t", "nat", "-F"));
    await expectRepair(node(), whole, () => iptables("-t", "filter", "-F"));
    await expectRepair(node(), whole, async () => {
      await iptables("-t", "nat", "-F");
      await iptables("-t", "nat", "-X");
    });
  });

  it("a jump removed from each built-in chain of a table", { timeout: 180_000 }, async () => {
    const whole = await startProgrammed(node());
    for (const table of ["nat", "filter"]) {
      const jumps = new Map<string, string>();
      for (const rule of await rulesOf(table)) {
        const chain = /^-A ([A-Z]+) /.exec(rule)?.[1];
        if (chain !== undefined) jumps.set(chain, rule.replace(/^-A /, ""));
      }
      expect([...jumps.keys()].sort()).toEqual(BUILT_IN[table]);
      await expectRepair(node(), whole, async () => {
        for (const rule of jumps.values()) await iptables("-t", table, "-D", ...unquoted(rule));
      });
    }
  });

  it("a flushed chain while the cluster changes all the time", async () => {
    await startProgrammed(node());
    await expectRepairWhileChanging(node(), () => iptables("-t", "nat", "-F", "KUBE-SERVICES"));
  });

  it("a rule removed from a Service's chain", async () => {
    const whole = await startProgrammed(node());
    const rule = (await rulesOf("nat")).find((line) => line.includes("10.180.0.11:8080"));
    expect(rule).toBeDefined();
    await expectRepair(node(), whole, () =>
      iptables("-t", "nat", "-D", ...unquoted((rule ?? "").replace(/^-A /, ""))),
    );
  });
});

/** The chains of each table that jump to ours. */
const BUILT_IN: Readonly<Record<string, readonly string[]>> = {
  nat: ["OUTPUT", "POSTROUTING", "PREROUTING"],
  filter: ["FORWARD", "INPUT", "OUTPUT"],
};

/** The words of a rule as `iptables -S` prints it. */
function unquoted(rule: string): readonly string[] {
  return [...rule.matchAll(/"((?:[^"\\]|\\.)*)"|(\S+)/g)].map(([, quoted, plain]) =>
    (quoted ?? plain ?? "").replaceAll("\\", ""),
  );
}
