/**
 * Everything that netfilter holds in node-a, as text that can be compared: what changed, what is left.
 */
import { FAMILIES, type Family } from "./addresses.ts";
import type { Lab } from "./lab.ts";

const SAVES = { ipv4: "iptables-legacy-save", ipv6: "ip6tables-legacy-save" } as const satisfies Record<
  Family,
  string
>;

/**
 * All rules of all owners, sorted and without counters. Tables of iptables that are empty count as absent: reading them
 * is enough to make them.
 */
export async function snapshot(lab: Lab): Promise<readonly string[]> {
  const nft = JSON.parse(await lab.namespaces.must("node-a", "nft", ["-j", "list", "ruleset"])) as {
    readonly nftables: readonly Readonly<Record<string, unknown>>[];
  };
  const legacy = await Promise.all(
    FAMILIES.map(async (family) => {
      const saved = await lab.namespaces.must("node-a", SAVES[family], []);
      return rulesOfSave(saved).map((rule) => `${family} legacy ${rule}`);
    }),
  );
  const objects = nft.nftables.flatMap(describeObject);
  return [...withoutEmptyTables(objects), ...legacy.flat()].sort();
}

/** `*nat` lines and the rules under them; built-in chains and counters are not told. */
export function rulesOfSave(saved: string): readonly string[] {
  let table = "";
  return saved.split("\n").flatMap((line) => {
    if (line.startsWith("*")) table = line.slice(1);
    const isOwnChain = line.startsWith(":") && line.includes(" - ");
    if (!line.startsWith("-A") && !isOwnChain) return [];
    return [`${table} ${line.replace(/ \[\d+:\d+\]$/, "")}`];
  });
}

/**
 * The same without the numbers by which nftables' maps refer to each other, and without the slots in which endpoints stand:
 * which Service has which number, and which endpoint which slot, depends on what stood in the kernel before.
 */
export function withoutNumbers(lines: readonly string[]): readonly string[] {
  return lines
    .map((line) =>
      line
        .replace(/"[0-9a-f]{1,4}:[0-9a-f]{1,4}"/g, '"number"')
        .replace(/\{"concat":\["number",\d+\]\}/g, '{"concat":["number","slot"]}'),
    )
    .sort();
}

/** One line for each object and each element of it. */
function describeObject(object: Readonly<Record<string, unknown>>): readonly string[] {
  const [[kind, value] = ["", {}]] = Object.entries(object);
  if (kind === "metainfo") return [];
  const { handle, elem, ...rest } = value as Readonly<Record<string, unknown>> & {
    readonly elem?: readonly unknown[];
  };
  const head = `${kind} ${JSON.stringify(rest, withoutChange)}`;
  // What packets write is no rule: it comes and goes with them.
  // `nft -j` does not tell that a set is dynamic (1.0.6); one without time-outs is known by its name.
  const flags = (rest.flags ?? []) as readonly string[];
  const isWrittenByPackets =
    flags.includes("timeout") || (rest.table === "fairlead" && rest.name === "connections");
  return [
    head,
    ...(isWrittenByPackets ? [] : (elem ?? [])).map(
      (element) => `${head} element ${JSON.stringify(element, withoutChange)}`,
    ),
  ];
}

/** Counters and ages change by themselves. */
function withoutChange(key: string, value: unknown): unknown {
  if (key === "handle" || key === "expires") return undefined;
  if (key === "packets" || key === "bytes") return 0;
  return value;
}

/** Drops iptables' base chains without rules, and tables that have nothing else. */
function withoutEmptyTables(lines: readonly string[]): readonly string[] {
  const parse = (line: string) =>
    JSON.parse(line.slice(line.indexOf(" ") + 1)) as Readonly<Record<string, string>>;
  const ruleChains = new Set(
    lines
      .filter((line) => line.startsWith("rule "))
      .map((line) => {
        const { family, table, chain } = parse(line);
        return `${family} ${table} ${chain}`;
      }),
  );
  const isIptables = (table: string | undefined) =>
    ["nat", "filter", "mangle", "raw", "security"].includes(table ?? "");
  const kept = lines.filter((line) => {
    if (!line.startsWith("chain ")) return true;
    const { family, table, name, hook } = parse(line);
    return !(isIptables(table) && hook !== undefined && !ruleChains.has(`${family} ${table} ${name}`));
  });
  const used = new Set(
    kept
      .filter((line) => !line.startsWith("table "))
      .map((line) => {
        const { family, table } = parse(line.replace(/ element .*/, ""));
        return `${family} ${table}`;
      }),
  );
  return kept.filter((line) => {
    if (!line.startsWith("table ")) return true;
    const { family, name } = parse(line);
    return !isIptables(name) || used.has(`${family} ${name}`);
  });
}

/** Rules and tables that somebody else made, and who must find them as they were. */
export async function addForeignRules(lab: Lab): Promise<void> {
  for (const ip of ["ip", "ip6", "inet"]) {
    await lab.namespaces.must("node-a", "nft", ["-f", "-"], {
      input: `table ${ip} foreign {
        set seen { type inet_service; elements = { 1, 2, 3 } }
        chain before {
          type filter hook prerouting priority -300
          tcp dport @seen counter
        }
        chain forward {
          type filter hook forward priority 5
          tcp dport 1 drop
        }
      }`,
    });
  }
  const rules = [
    "*nat",
    ":FOREIGN - [0:0]",
    "-A PREROUTING -p tcp --dport 9 -j FOREIGN",
    "-A OUTPUT -p tcp --dport 9 -j FOREIGN",
    '-A POSTROUTING -p tcp --dport 9 -m comment --comment "somebody\'s own" -j RETURN',
    "-A FOREIGN -p tcp --dport 9 -j RETURN",
    "COMMIT",
    "*filter",
    ":FOREIGN-FORWARD - [0:0]",
    "-A INPUT -p tcp --dport 9 -j ACCEPT",
    "-A FORWARD -p tcp --dport 9 -j FOREIGN-FORWARD",
    "-A FOREIGN-FORWARD -j DROP",
    "COMMIT",
    "*mangle",
    "-A PREROUTING -p tcp --dport 9 -j MARK --set-xmark 0x1/0x1",
    "COMMIT",
    "",
  ].join("\n");
  await restoreEverywhere(lab, rules);
}

/** The chains that kubelet makes, which have the prefix of kube-proxy's and are none of them. */
export async function addKubeletRules(lab: Lab): Promise<void> {
  const rules = [
    "*mangle",
    ":KUBE-IPTABLES-HINT - [0:0]",
    ":KUBE-KUBELET-CANARY - [0:0]",
    "COMMIT",
    "*nat",
    ":KUBE-KUBELET-CANARY - [0:0]",
    ":KUBE-MARK-DROP - [0:0]",
    "-A KUBE-MARK-DROP -j MARK --set-xmark 0x8000/0x8000",
    "COMMIT",
    "*filter",
    ":KUBE-KUBELET-CANARY - [0:0]",
    ":KUBE-FIREWALL - [0:0]",
    "-A INPUT -j KUBE-FIREWALL",
    "-A OUTPUT -j KUBE-FIREWALL",
    '-A KUBE-FIREWALL -m comment --comment "kubernetes firewall for dropping marked packets" -m mark --mark 0x8000/0x8000 -j DROP',
    "COMMIT",
    "",
  ].join("\n");
  await restoreEverywhere(lab, rules);
}

/** Into both families, by both variants. */
async function restoreEverywhere(lab: Lab, input: string): Promise<void> {
  for (const program of ["iptables", "ip6tables"]) {
    for (const variant of ["nft", "legacy"]) {
      await lab.namespaces.must("node-a", `${program}-${variant}-restore`, ["--noflush"], { input });
    }
  }
}
